# SPDX-License-Identifier: Apache-2.0
"""The results of an evaluation as one page that needs no other file; its words and looks are in html_report.html."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from ..metrics import case_means
from ..visualize import draw_box_plot

__all__ = ["render_html_report"]


def render_html_report(
    results: Mapping[str, Any],
    pictures: Sequence[tuple[str, bytes]] = (),
    agreement_plots: Sequence[tuple[str, bytes]] = (),
) -> str:
    """
    Write the page. Nothing in it is loaded from elsewhere; a browser shows it from a mail or without a network.

    Args:
        results: as :py:func:`evaluation_results` gives them, and ``title`` (text) and ``about`` (what to say of the
            run, texts by their names); ``agreement`` where there is one.
        pictures: captions and PNG files of example cases.
        agreement_plots: captions and PNG files, one for each measure of the agreement.

    Returns:
        HTML that is well-formed XML, too.
    """
    environment = Environment(
        loader=PackageLoader("monai_sam2adapter", "reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.tests["nan"] = math.isnan
    metrics = list(results["metrics"].values())
    values = [np.array(metric["values"], dtype=float) for metric in metrics]
    means = np.array([case_means(table.T) for table in values]).T
    matrix = results["confusion_matrix"] or {"class_names": [], "counts": []}
    of_each = list(zip(matrix["class_names"], matrix["counts"], strict=True)) if np.ndim(matrix["counts"]) == 3 else []
    return environment.get_template("html_report.html").render(
        results=results,
        metrics=metrics,
        confusion_of_each=of_each,
        pooled=list(results["pooled"].values()),
        plots=_encode(_box_plots(results, values)),
        pictures=_encode(pictures),
        agreement=results.get("agreement"),
        agreement_plots=_encode(agreement_plots),
        case_means=list(zip(results["cases"], means.tolist(), strict=True)) if metrics else [],
    )


def _box_plots(results: Mapping[str, Any], values: Sequence[np.ndarray]) -> list[tuple[str, bytes]]:
    """Captions and PNG files, one for each metric with a value."""
    plots = []
    for metric, table in zip(results["metrics"].values(), values, strict=True):
        if not np.isnan(table).all():
            is_distance = not metric["larger_is_better"] and bool(np.nanmax(table) > 1)  # an absolute error is below
            picture = draw_box_plot(table, results["class_names"], metric["title"], logarithmic=is_distance)
            scale = ", logarithmic above 1" if is_distance else ""
            plots.append((f"{metric['title']} of each case and class{scale}", picture))
    return plots


def _encode(pictures: Sequence[tuple[str, bytes]]) -> list[tuple[str, str]]:
    return [(caption, base64.b64encode(content).decode("ascii")) for caption, content in pictures]
