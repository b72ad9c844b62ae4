# SPDX-License-Identifier: Apache-2.0
"""Box plots of scores, as pictures for a report."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

__all__ = ["draw_box_plot"]


def draw_box_plot(values: np.ndarray, class_names: Sequence[str], title: str, logarithmic: bool = False) -> bytes:
    """
    Draw the distribution of a metric over the cases, one box and all points for each class.

    Boxes reach from the first to the third quartile with a line at the median, whiskers to the last point within 1.5
    times that range.

    Args:
        values: NaN where there is no value, but not everywhere, ``(N, K)``. From 0 to 1 the axis shows this range, as
            in every report; else that of the values.
        class_names: names of the ``K`` classes.
        title: of the vertical axis.
        logarithmic: whether the vertical axis is logarithmic above 1, for distances: those of missed structures are
            far from all others. Defaults to False.

    Returns:
        the content of a PNG file.
    """
    columns = [column[~np.isnan(column)] for column in values.T]
    # a Figure of its own, since pyplot would change the backend of the program that evaluates
    figure = Figure(figsize=(max(3.0, 0.7 * len(columns) + 1.4), 3.6), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.boxplot(columns, widths=0.5, showfliers=False, medianprops={"color": "black"})
    spread = np.random.default_rng(0)  # points side by side, the same in every report
    for position, column in enumerate(columns, start=1):
        places = position + spread.uniform(-0.15, 0.15, size=len(column))
        axes.plot(places, column, "o", markersize=3, alpha=0.5, color="tab:blue", markeredgewidth=0, zorder=3)
    # matplotlib reads text between dollars as a formula
    labels = [name.replace("$", r"\$") for name in class_names]
    axes.set_xticks(range(1, len(columns) + 1), labels, rotation=35, ha="right")
    axes.set_ylabel(title.replace("$", r"\$"))
    if logarithmic:
        axes.set_yscale("symlog", linthresh=1)
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.set_ylim(-0.1, 2 * max(1.0, np.nanmax(values)))  # matplotlib leaves no room for the extreme points
    elif np.nanmin(values) >= 0 and np.nanmax(values) <= 1:
        axes.set_ylim(-0.02, 1.02)  # the same in every report, so that two can be compared
    axes.grid(axis="y", alpha=0.3)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
