# SPDX-License-Identifier: Apache-2.0
"""Running cells in processes, several at a time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .cell import ComparisonCell
from .time_left import estimate_seconds_left, format_seconds

__all__ = ["run_cells"]

_POLL_SECONDS = 0.2
_STATUS_SECONDS = 120.0
# MONAI warns of untrusted configs at each start; these are the user's own
_COMMAND = (sys.executable, "-W", "ignore::UserWarning", "-m", "monai_sam2adapter.comparison.worker")
# the progress bar of a bundle's training, of which the end of the log is enough
_EPOCH = re.compile(r"Epoch (\d+)/(\d+):")
_LOG_TAIL = 4096


def run_cells(
    cells: Sequence[ComparisonCell],
    output_dir: Path,
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
        output_dir: folder of the comparison.
        jobs: number of processes at a time.
        threads: threads of each process on the CPU.
        report: takes a line for each cell that ends, and every two minutes one about those that run.
        ended: called with the failed ones after each cell that ends.

    Returns:
        for each cell that failed the reason.
    """
    return _Run(cells, output_dir, jobs, threads, report, ended).run()


class _Run:
    """The cells that wait, run, are finished and have failed."""

    def __init__(
        self,
        cells: Sequence[ComparisonCell],
        output_dir: Path,
        jobs: int,
        threads: int,
        report: Callable[[str], None],
        ended: Callable[[Mapping[ComparisonCell, str]], None],
    ) -> None:
        self.cells, self.output_dir, self.jobs, self.threads = cells, output_dir, jobs, threads
        self.report, self.ended = report, ended
        results = {cell: ComparisonCell.result(cell.folder(output_dir)) for cell in cells}
        self.waiting = [cell for cell in cells if results[cell] is None]
        self.seconds = {cell: result["seconds"] for cell, result in results.items() if result and result["seconds"]}
        self.running: dict[ComparisonCell, tuple[subprocess.Popen[bytes], float]] = {}
        self.errors: dict[ComparisonCell, str] = {}

    def run(self) -> dict[ComparisonCell, str]:
        """Run all that wait."""
        if len(self.waiting) < len(self.cells):
            self.report(f"{len(self.cells) - len(self.waiting)} of {len(self.cells)} are finished already.")
        told = time.perf_counter()
        try:
            while self.waiting or self.running:
                while self.waiting and len(self.running) < self.jobs:
                    self._start(self.waiting.pop(0))
                for cell in [cell for cell, (process, _) in self.running.items() if process.poll() is not None]:
                    self._finish(cell)
                    told = time.perf_counter()
                if time.perf_counter() - told > _STATUS_SECONDS:
                    self._tell_status()
                    told = time.perf_counter()
                time.sleep(_POLL_SECONDS)
        finally:
            for process, _ in self.running.values():
                process.terminate()
            for process, _ in self.running.values():
                process.wait()
        return self.errors

    def _start(self, cell: ComparisonCell) -> None:
        folder = cell.folder(self.output_dir)
        cell.write(folder)
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads), "MKL_NUM_THREADS": str(self.threads)}
        with (folder / "log.txt").open("ab") as log:
            command = [*_COMMAND, str(folder)]
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        self.running[cell] = (process, time.perf_counter())

    def _finish(self, cell: ComparisonCell) -> None:
        process, start = self.running.pop(cell)
        took = time.perf_counter() - start
        folder = cell.folder(self.output_dir)
        result = ComparisonCell.result(folder)
        if result is None:
            self.errors[cell] = _reason(folder / "log.txt", process.returncode)
        elif result["seconds"]:  # else it was the rest of an earlier run
            self.seconds[cell] = took
        done = len(self.cells) - len(self.waiting) - len(self.running)
        count = f"[{done:>{len(str(len(self.cells)))}}/{len(self.cells)}]"
        outcome = self._outcome(cell, result)
        self.report(f"{count} {cell}: {outcome} ({format_seconds(took)}){self._left()}")
        try:
            self.ended(self.errors)
        except OSError as error:  # a table that is open elsewhere must not end the trainings
            self.report(f"Not written: {error}")

    def _tell_status(self) -> None:
        states = []
        for cell in self.running:
            epoch = _epoch_of(cell.folder(self.output_dir) / "log.txt")
            states.append(f"{cell}" if epoch is None else f"{cell}, epoch {epoch[0]} of {epoch[1]}")
        self.report(f"Running: {'; '.join(states)}{self._left()}")

    def _outcome(self, cell: ComparisonCell, result: Mapping[str, Any] | None) -> str:
        if result is None:
            return f"FAILED, {self.errors[cell]}"
        return "written" if cell.metric is None else f"{cell.metric} {result['score']:.4f}"

    def _left(self) -> str:
        """The time left; what runs counts as much as its epochs tell."""
        now = time.perf_counter()
        known = dict(self.seconds)
        for cell, (_, start) in self.running.items():
            epoch = _epoch_of(cell.folder(self.output_dir) / "log.txt")
            if epoch is not None and epoch[0] > 1:
                known[cell] = (now - start) * epoch[1] / (epoch[0] - 1)
        spent = sum(now - start for _, start in self.running.values())
        seconds = estimate_seconds_left(known, [*self.running, *self.waiting], self.jobs, spent)
        return f"; about {format_seconds(seconds)} left" if seconds else ""


def _epoch_of(log: Path) -> tuple[int, int] | None:
    """The epoch that a training is in, and their number."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_TAIL))
        found = _EPOCH.findall(file.read().decode(errors="replace"))
    return (int(found[-1][0]), int(found[-1][1])) if found else None


def _reason(log: Path, code: int) -> str:
    """What the worker wrote last."""
    if code < 0:
        return f"ended by signal {-code} (9 is often the system's answer to too little memory); see {log}"
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    last = lines[-1].removeprefix("error: ") if lines else f"exit code {code}"
    return f"{last} (see {log})"
