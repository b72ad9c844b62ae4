# SPDX-License-Identifier: Apache-2.0
"""Cells in processes, several at a time, with progress and the time left."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean

from ..utils.machine import num_cores
from .grid import ComparisonCell

__all__ = ["check_jobs", "format_seconds", "jobs_and_threads", "run_cells", "seconds_left"]

_MAX_JOBS_ON_CPU = 4
_POLL_SECONDS = 0.2
_STATUS_SECONDS = 120.0
# MONAI warns of untrusted configs at each start; these are the user's own
_COMMAND = (sys.executable, "-W", "ignore::UserWarning", "-m", "monai_sam2adapter.comparison.worker")
# in the progress bar of a bundle's training
_EPOCH = re.compile(r"Epoch (\d+)/(\d+):")


def check_jobs(jobs: int | None) -> None:
    """Refuse a number of jobs that is none."""
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}.")


def jobs_and_threads(jobs: int | None, devices: Iterable[str]) -> tuple[int, int]:
    """Trainings at a time, if not given 1 on a GPU, else one for each core and 4 at most; and threads of each."""
    on_gpu = any(device != "cpu" for device in devices)
    jobs = jobs or (1 if on_gpu else min(num_cores(), _MAX_JOBS_ON_CPU))
    return jobs, max(1, num_cores() // jobs)


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
    again. A cell that fails does not stop the others. ``ended`` is called with the failed ones after each that ends.

    Returns:
        for each cell that failed the reason.
    """
    waiting = [cell for cell in cells if cell.result() is None]
    if len(waiting) < len(cells):
        report(f"{len(cells) - len(waiting)} of {len(cells)} are finished already.")
    running: list[_Process] = []
    errors: dict[ComparisonCell, str] = {}

    def tell(line: str) -> float:
        spent = {process.cell: (process.seconds, process.expected_seconds()) for process in running}
        seconds = seconds_left([cell for cell in cells if cell not in errors], spent, jobs)
        report(line + (f"; about {format_seconds(seconds)} left" if seconds else ""))
        return time.perf_counter()

    told = time.perf_counter()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_Process(waiting.pop(0), threads))
            for process in [process for process in running if process.popen.poll() is not None]:
                running.remove(process)
                if process.cell.result() is None:
                    errors[process.cell] = process.reason()
                count = f"[{len(cells) - len(waiting) - len(running):>{len(str(len(cells)))}}/{len(cells)}]"
                outcome = f"FAILED, {errors[process.cell]}" if process.cell in errors else _score(process.cell)
                told = tell(f"{count} {process.cell}: {outcome} ({format_seconds(process.seconds)})")
                try:
                    ended(errors)
                except OSError as error:  # a table that is open elsewhere must not end the trainings
                    report(f"Not written: {error}")
            if time.perf_counter() - told > _STATUS_SECONDS:
                told = tell(f"Running: {'; '.join(map(str, running))}")
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
        self.cell, self.log = cell, Path(cell.folder) / "log.txt"
        cell.write()
        if self.log.is_symlink():  # who may write to the folder could lead the log into another file
            self.log.unlink()
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            command = [*_COMMAND, cell.folder]
            self.popen = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        self._start = time.perf_counter()

    def __str__(self) -> str:
        _, now, last = self._epochs()
        return f"{self.cell}, epoch {now} of {last}" if last else str(self.cell)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def expected_seconds(self) -> float | None:
        """How long the whole takes, as much as its epochs tell."""
        first, now, last = self._epochs()
        return self.seconds * (last - first + 1) / (now - first) if now > first else None

    def reason(self) -> str:
        """What it wrote last."""
        code = self.popen.returncode
        if code < 0:
            return f"ended by signal {-code} (9 is often the system's answer to too little memory); see {self.log}"
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), f"exit code {code}")
        return f"{last.removeprefix('error: ')} (see {self.log})"

    def _epochs(self) -> tuple[int, int, int]:
        """The epoch it began with, the one it is in, and the last one; zeros as long as it tells none."""
        found = _EPOCH.findall(self.log.read_bytes()[self._log_start :].decode(errors="replace"))
        return (int(found[0][0]), int(found[-1][0]), int(found[-1][1])) if found else (0, 0, 0)


def _score(cell: ComparisonCell) -> str:
    metric = "validation" if cell.is_rung else cell.metric
    return "written" if metric is None else f"{metric} {(cell.result() or {})['score']:.4f}"


def seconds_left(
    cells: Sequence[ComparisonCell], running: Mapping[ComparisonCell, tuple[float, float | None]], jobs: int
) -> float | None:
    """
    Estimate from cells that are known: those of the same method and data set, else of the data set, else all.

    ``running`` has the seconds that cells have run for and, where they are known, those that they take as a whole.
    Returns None when nothing is known yet.
    """
    results = {cell: cell.result() for cell in cells}
    left = [cell for cell, result in results.items() if result is None]
    known = {cell: result["seconds"] for cell, result in results.items() if result and result["seconds"]}
    known |= {cell: whole for cell, (_, whole) in running.items() if whole}
    if not known:
        return None

    def expected(cell: ComparisonCell) -> float:
        same = [seconds for other, seconds in known.items() if other.place == cell.place]
        alike = [seconds for other, seconds in known.items() if other.dataset == cell.dataset]
        return mean(same or alike or known.values())

    spent = sum(seconds for seconds, _ in running.values())
    return max(sum(map(expected, left)) - spent, 0.0) / max(1, min(jobs, len(left)))


def format_seconds(seconds: float) -> str:
    """Seconds as a person reads them, such as "1 min 5 s" or "2 h 3 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
