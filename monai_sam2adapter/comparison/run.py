# SPDX-License-Identifier: Apache-2.0
"""Running cells in processes, several at a time, with progress and the time left."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import mean

from .grid import ComparisonCell

__all__ = ["estimate_seconds_left", "format_seconds", "run_cells"]

_POLL_SECONDS = 0.2
_STATUS_SECONDS = 120.0
# MONAI warns of untrusted configs at each start; these are the user's own
_COMMAND = (sys.executable, "-W", "ignore::UserWarning", "-m", "monai_sam2adapter.comparison.worker")
# the progress bar of a bundle's training, of which the ends of the log are enough
_EPOCH = re.compile(r"Epoch (\d+)/(\d+):")
_LOG_BYTES = 16384


def run_cells(
    cells: Sequence[ComparisonCell],
    jobs: int,
    threads: int,
    report: Callable[[str], None],
    ended: Callable[[Mapping[ComparisonCell, str]], None] = lambda errors: None,
) -> dict[ComparisonCell, str]:
    """
    Run the cells that are not finished, each in a process of its own that writes to ``log.txt`` in its folder.

    When this process is interrupted, the cells that run are ended; they go on from their last epoch when they are run
    again. A cell that fails does not stop the others.

    Args:
        cells: what to run, in this order.
        jobs: number of processes at a time.
        threads: threads of each process on the CPU.
        report: takes a line for each cell that ends, and every two minutes one about those that run.
        ended: called with the failed ones after each cell that ends.

    Returns:
        for each cell that failed the reason.
    """
    waiting = [cell for cell in cells if cell.result() is None]
    if len(waiting) < len(cells):
        report(f"{len(cells) - len(waiting)} of {len(cells)} are finished already.")
    results = {cell: cell.result() for cell in cells}
    seconds = {cell: result["seconds"] for cell, result in results.items() if result and result["seconds"]}
    running: list[_Process] = []
    errors: dict[ComparisonCell, str] = {}
    told = time.perf_counter()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_Process(waiting.pop(0), threads))
            for process in [process for process in running if process.ended]:
                running.remove(process)
                outcome = _outcome(process, errors, seconds)
                done = len(cells) - len(waiting) - len(running)
                count = f"[{done:>{len(str(len(cells)))}}/{len(cells)}]"
                took = format_seconds(process.seconds)
                report(f"{count} {process.cell}: {outcome} ({took}){_left(seconds, running, waiting, jobs)}")
                try:
                    ended(errors)
                except OSError as error:  # a table that is open elsewhere must not end the trainings
                    report(f"Not written: {error}")
                told = time.perf_counter()
            if time.perf_counter() - told > _STATUS_SECONDS:
                report(f"Running: {'; '.join(map(str, running))}{_left(seconds, running, waiting, jobs)}")
                told = time.perf_counter()
            time.sleep(_POLL_SECONDS)
    finally:
        for process in running:
            process.popen.terminate()
        for process in running:
            process.popen.wait()
    return errors


class _Process:
    """A cell that runs."""

    def __init__(self, cell: ComparisonCell, threads: int) -> None:
        self.cell = cell
        cell.write()
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        with cell.log.open("ab") as log:
            self._log_start = log.tell()
            command = [*_COMMAND, cell.folder]
            self.popen = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        self._start = time.perf_counter()

    def __str__(self) -> str:
        epochs = self._epochs()
        return str(self.cell) if epochs is None else f"{self.cell}, epoch {epochs[1]} of {epochs[2]}"

    @property
    def ended(self) -> bool:
        return self.popen.poll() is not None

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def expected_seconds(self) -> float | None:
        """How long the whole takes, as much as its epochs tell."""
        epochs = self._epochs()
        if epochs is None or epochs[0] == epochs[1]:
            return None
        first, now, last = epochs
        return self.seconds * (last - first + 1) / (now - first)

    def reason(self) -> str:
        """What it wrote last."""
        log, code = self.cell.log, self.popen.returncode
        if code < 0:
            return f"ended by signal {-code} (9 is often the system's answer to too little memory); see {log}"
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        last = lines[-1].removeprefix("error: ") if lines else f"exit code {code}"
        return f"{last} (see {log})"

    def _epochs(self) -> tuple[int, int, int] | None:
        """The epoch it began with, the one it is in, and the last one."""
        with self.cell.log.open("rb") as file:
            file.seek(self._log_start)
            text = file.read(_LOG_BYTES)
            file.seek(max(file.tell(), self.cell.log.stat().st_size - _LOG_BYTES))
            found = _EPOCH.findall((text + file.read()).decode(errors="replace"))
        return (int(found[0][0]), int(found[-1][0]), int(found[-1][1])) if found else None


def _outcome(process: _Process, errors: dict[ComparisonCell, str], seconds: dict[ComparisonCell, float]) -> str:
    """Note how a cell has ended, and say it."""
    cell, result = process.cell, process.cell.result()
    if result is None:
        errors[cell] = process.reason()
        return f"FAILED, {errors[cell]}"
    if result["seconds"]:  # else it was the rest of an earlier run
        seconds[cell] = process.seconds
    metric = "validation" if cell.is_rung else cell.metric
    return "written" if metric is None else f"{metric} {result['score']:.4f}"


def _left(
    seconds: Mapping[ComparisonCell, float], running: Sequence[_Process], waiting: Sequence[ComparisonCell], jobs: int
) -> str:
    expected = {process.cell: whole for process in running if (whole := process.expected_seconds()) is not None}
    left = [*(process.cell for process in running), *waiting]
    spent = sum(process.seconds for process in running)
    estimate = estimate_seconds_left({**seconds, **expected}, left, jobs, spent)
    return f"; about {format_seconds(estimate)} left" if estimate else ""


def estimate_seconds_left(
    known: Mapping[ComparisonCell, float], left: Sequence[ComparisonCell], jobs: int, spent: float = 0.0
) -> float | None:
    """
    Estimate from the cells that are known: those of the same method and data set, else of the data set, else all.

    Args:
        known: seconds that cells take.
        left: cells that run or wait.
        jobs: number of cells that run at a time.
        spent: seconds that the running ones have run for, in sum. Defaults to 0.

    Returns:
        seconds; None when nothing is known yet.
    """
    if not known:
        return None

    def expected(cell: ComparisonCell) -> float:
        same = [seconds for other, seconds in known.items() if other.place == cell.place]
        alike = [seconds for other, seconds in known.items() if other.dataset == cell.dataset]
        return mean(same or alike or known.values())

    return max(sum(map(expected, left)) - spent, 0.0) / max(1, min(jobs, len(left)))


def format_seconds(seconds: float) -> str:
    """Seconds as a person reads them, such as "1 min 5 s" or "2 h 3 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
