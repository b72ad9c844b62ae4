# SPDX-License-Identifier: Apache-2.0
"""How long the rest of a comparison will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

from .cell import ComparisonCell

__all__ = ["estimate_seconds_left", "format_seconds"]


def estimate_seconds_left(
    finished: Mapping[ComparisonCell, float], left: Sequence[ComparisonCell], jobs: int, spent: float = 0.0
) -> float | None:
    """
    Estimate from the cells that are finished: those of the same method and data set, else of the data set, else all.

    Args:
        finished: seconds that each finished cell took.
        left: cells that run or wait.
        jobs: number of cells that run at a time.
        spent: seconds that the running ones have run for, in sum. Defaults to 0.

    Returns:
        seconds; None when nothing is finished yet.
    """
    if not finished:
        return None
    total = sum(_expected(cell, finished) for cell in left)
    return max(total - spent, 0.0) / max(1, min(jobs, len(left)))


def format_seconds(seconds: float) -> str:
    """Seconds as a person reads them, such as "1 min 5 s" or "2 h 3 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _expected(cell: ComparisonCell, finished: Mapping[ComparisonCell, float]) -> float:
    alike = [seconds for other, seconds in finished.items() if other.dataset == cell.dataset]
    same = [s for other, s in finished.items() if (other.dataset, other.method) == (cell.dataset, cell.method)]
    return mean(same or alike or list(finished.values()))
