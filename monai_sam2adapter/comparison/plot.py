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
    """A panel for each data set: the mean score of methods over their MACs, with the deviation over seeds."""
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    columns = min(_COLUMNS, len(datasets))
    lines = math.ceil(len(datasets) / columns)
    # a Figure of its own, since pyplot would change the backend of the program that compares
    figure = Figure(figsize=(1.2 + 4.4 * columns, 1.2 + 3.4 * lines), dpi=130, layout="constrained")
    colors = matplotlib.colormaps["tab10" if len(methods) <= 10 else "tab20"].colors  # type: ignore[attr-defined]
    points: dict[str, Any] = {}
    for index, dataset in enumerate(datasets, start=1):
        axes = figure.add_subplot(lines, columns, index)
        own = [row for row in rows if row["dataset"] == dataset]
        for number, method in enumerate(methods):
            for row in [row for row in own if row["method"] == method and row["seeds"] and "macs" in row]:
                points[method] = axes.errorbar(
                    row["macs"] / 1e9,
                    row["mean"],
                    yerr=None if math.isnan(row["std"]) else row["std"],
                    fmt=_MARKERS[number % len(_MARKERS)],
                    color=colors[number % len(colors)],
                    markersize=8,
                    capsize=3,
                )
        metric = own[0]["metric"] + ("" if own[0]["larger_is_better"] else ", smaller is better")
        axes.set(title=_plain(dataset), xlabel="MACs of an image [10⁹]", ylabel=_plain(metric))
        axes.margins(0.12)
        axes.grid(alpha=0.3)
    figure.suptitle(_plain(title))
    if points:
        names = [method for method in methods if method in points]
        figure.legend([points[n] for n in names], map(_plain, names), loc="outside right upper", frameon=False)
    return figure


def write_plot(title: str, rows: Sequence[Mapping[str, Any]], output_dir: Path) -> None:
    """Write ``plot.png`` and ``plot.svg``, the same files for the same numbers."""
    with matplotlib.rc_context({"svg.hashsalt": "comparison", "svg.fonttype": "none"}):
        figure = draw_comparison(title, rows)
        for name, metadata in (("plot.png", {}), ("plot.svg", {"Date": None})):
            with atomic_path(output_dir / name) as temporary:
                figure.savefig(temporary, metadata=metadata)


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # matplotlib reads text between dollars as a formula
