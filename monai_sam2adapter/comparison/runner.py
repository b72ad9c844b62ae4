# SPDX-License-Identifier: Apache-2.0
"""Running cells in processes, several at a time."""

from __future__ import annotations

import os
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
# MONAI warns of untrusted configs at each start; these are the user's own
_COMMAND = (sys.executable, "-W", "ignore::UserWarning", "-m", "monai_sam2adapter.comparison.worker")


def run_cells(
    cells: Sequence[ComparisonCell],
    output_dir: Path,
    jobs: int,
    threads: int,
    report: Callable[[str], None],
    finished: Callable[[], None] = lambda: None,
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
        report: takes a line for each cell that ends.
        finished: called after each cell that ends well.

    Returns:
        for each cell that failed the reason.
    """
    results = {cell: ComparisonCell.result(cell.folder(output_dir)) for cell in cells}
    waiting = [cell for cell in cells if results[cell] is None]
    seconds = {cell: result["seconds"] for cell, result in results.items() if result is not None}
    if seconds:
        report(f"{len(seconds)} of {len(cells)} are finished already.")
    errors: dict[ComparisonCell, str] = {}
    running: dict[ComparisonCell, tuple[subprocess.Popen[bytes], float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                cell = waiting.pop(0)
                running[cell] = (_start(cell, output_dir, threads), time.perf_counter())
            for cell in [cell for cell, (process, _) in running.items() if process.poll() is not None]:
                process, start = running.pop(cell)
                took = time.perf_counter() - start
                result = ComparisonCell.result(cell.folder(output_dir))
                if result is None:
                    errors[cell] = _reason(cell.folder(output_dir) / "log.txt", process.returncode)
                else:
                    seconds[cell] = took
                    finished()
                left = [*running, *waiting]
                spent = sum(time.perf_counter() - started for _, started in running.values())
                seconds_left = estimate_seconds_left(seconds, left, jobs, spent)
                count = f"[{len(cells) - len(left):>{len(str(len(cells)))}}/{len(cells)}]"
                report(
                    f"{count} {cell}: {_outcome(cell, result, errors)} ({format_seconds(took)}){_left(seconds_left)}"
                )
            time.sleep(_POLL_SECONDS)
    finally:
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            process.wait()
    return errors


def _start(cell: ComparisonCell, output_dir: Path, threads: int) -> subprocess.Popen[bytes]:
    folder = cell.folder(output_dir)
    cell.write(folder)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen([*_COMMAND, str(folder)], stdout=log, stderr=subprocess.STDOUT, env=environment)


def _outcome(cell: ComparisonCell, result: Mapping[str, Any] | None, errors: Mapping[ComparisonCell, str]) -> str:
    if result is None:
        return f"FAILED, {errors[cell]}"
    return "written" if cell.metric is None else f"{cell.metric} {result['score']:.4f}"


def _left(seconds: float | None) -> str:
    return "" if not seconds else f"; about {format_seconds(seconds)} left"


def _reason(log: Path, code: int) -> str:
    """What the worker wrote last."""
    if code < 0:
        return f"ended by signal {-code} (9 is often the system's answer to too little memory); see {log}"
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    last = lines[-1].removeprefix("error: ") if lines else f"exit code {code}"
    return f"{last} (see {log})"
