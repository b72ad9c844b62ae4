# SPDX-License-Identifier: Apache-2.0
"""Accuracy over computation, as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from ..utils.files import atomic_path

__all__ = ["draw_comparison", "write_plot"]

_COLUMNS = 2
_MARKERS = "osD^vP*Xh<>"


def draw_comparison(title: str, rows: Sequence[Mapping[str, Any]]) -> Figure:
    """
    Draw the mean score of each method over its MACs, a panel for each data set, with the deviation over seeds.

    Args:
        title: above all panels.
        rows: of :func:`~monai_sam2adapter.comparison.tables.method_rows`; those without a score or costs are left out.

    Returns:
        the figure.
    """
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    columns = min(_COLUMNS, len(datasets))
    lines = math.ceil(len(datasets) / columns)
    # a Figure of its own, since pyplot would change the backend of the program that compares
    figure = Figure(figsize=(1.2 + 4.4 * columns, 1.2 + 3.4 * lines), dpi=130, layout="constrained")
    colors = matplotlib.colormaps["tab10" if len(methods) <= 10 else "tab20"].colors  # type: ignore[attr-defined]
    handles: dict[str, Any] = {}
    for index, dataset in enumerate(datasets):
        axes = figure.add_subplot(lines, columns, index + 1)
        own = [row for row in rows if row["dataset"] == dataset]
        for row in own:
            if row["seeds"] and "macs" in row:
                number = methods.index(row["method"])
                handles[row["method"]] = axes.errorbar(
                    row["macs"] / 1e9,
                    row["mean"],
                    yerr=None if math.isnan(row["std"]) else row["std"],
                    fmt=_MARKERS[number % len(_MARKERS)],
                    color=colors[number % len(colors)],
                    markersize=8,
                    capsize=3,
                )
        axes.set_title(_plain(dataset))
        axes.set_xlabel("MACs of an image [10⁹]")
        axes.set_ylabel(_plain(own[0]["metric"]) + ("" if own[0]["larger_is_better"] else ", smaller is better"))
        axes.margins(0.12)
        axes.grid(alpha=0.3)
    figure.suptitle(_plain(title))
    names = [method for method in methods if method in handles]
    if names:
        labels = [_plain(name) for name in names]
        figure.legend([handles[name] for name in names], labels, loc="outside right upper", frameon=False)
    return figure


def write_plot(title: str, rows: Sequence[Mapping[str, Any]], output_dir: Path) -> None:
    """Write ``plot.png`` and ``plot.svg``."""
    # the same file for the same numbers
    with matplotlib.rc_context({"svg.hashsalt": "comparison", "svg.fonttype": "none"}):
        figure = draw_comparison(title, rows)
        for name, metadata in (("plot.png", {}), ("plot.svg", {"Date": None})):
            with atomic_path(output_dir / name) as temporary:
                figure.savefig(temporary, metadata=metadata)


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # matplotlib reads text between dollars as a formula
