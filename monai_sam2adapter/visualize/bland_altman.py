# SPDX-License-Identifier: Apache-2.0
"""Bland-Altman plots: how far predicted values are from those of the reference."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

__all__ = ["draw_bland_altman"]


def draw_bland_altman(measure: Mapping[str, Any]) -> bytes:
    """
    Draw predicted minus reference over the mean of the two, with lines at the bias and at the limits of agreement.

    Args:
        measure: ``title``, ``unit``, ``reference`` and ``predicted`` (as many numbers, NaN without a value), ``n``,
            ``bias``, ``limit_low`` and ``limit_high``; what is NaN has no line.

    Returns:
        the content of a PNG file.
    """
    reference, predicted = (np.array(measure[side], dtype=float) for side in ("reference", "predicted"))
    # a Figure of its own, since pyplot would change the backend of the program that evaluates
    figure = Figure(figsize=(5.2, 3.6), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(0, color="0.7", linewidth=0.8)
    axes.plot((reference + predicted) / 2, predicted - reference, "o", markersize=4, alpha=0.7, color="tab:blue")
    lines = {"bias": ("bias", "-"), "limit_high": ("+1.96 SD", "--"), "limit_low": ("-1.96 SD", "--")}
    for key, (name, style) in lines.items():
        value = measure[key]
        if not np.isnan(value):
            axes.axhline(value, color="black", linestyle=style, linewidth=1)
            place = {"x": 1.01, "y": value, "transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 8}
            axes.text(s=f"{name}\n{value:.3g}", **place)
    axes.set_title(f"{measure['title']} (n = {measure['n']})", fontsize=10)
    axes.set_xlabel(f"mean of reference and prediction ({measure['unit']})")
    axes.set_ylabel(f"prediction - reference ({measure['unit']})")
    axes.margins(0.1, 0.15)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
