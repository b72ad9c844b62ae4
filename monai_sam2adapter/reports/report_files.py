# SPDX-License-Identifier: Apache-2.0
"""The results of an evaluation as files, and as text for a log."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..utils import is_own, own_path, printable, spreadsheet_cell
from ..visualize import draw_bland_altman
from .html_report import render_html_report

__all__ = ["AGREEMENT_FILES", "REPORT_FILES", "format_results_text", "write_report"]

REPORT_FILES = ("results.json", "cases.csv", "summary.csv", "report.html")
"""What every report writes."""

AGREEMENT_FILES = ("patients.csv", "agreement.csv", "bland_altman_*.png")
"""What a report with an agreement writes besides, as patterns."""

_COLUMNS = ("mean", "ci95_low", "ci95_high", "std", "median", "min", "max")


def write_report(
    results: Mapping[str, Any],
    output_dir: str | os.PathLike[str],
    pictures: Sequence[tuple[str, bytes]] = (),
    overwrite: bool = False,
) -> list[str]:
    """
    Write ``results.json``, ``cases.csv``, ``summary.csv`` and ``report.html``, and with an agreement ``patients.csv``,
    ``agreement.csv`` and a plot for each measure; see :py:class:`monai_sam2adapter.handlers.CaseReportSaver` for what
    is in them.

    Args:
        results: as :py:func:`evaluation_results` gives them, ``title`` and ``about``; and ``agreement`` where there is
            one, as :py:class:`CardiacFunction` gives it.
        output_dir: folder of the files; made when missing.
        pictures: captions and PNG files of example cases.
        overwrite: whether to replace files that no run has written, or that were changed since. Defaults to False.

    Returns:
        names of the files.

    Raises:
        FileExistsError: when there is such a file, unless ``overwrite``.
    """
    shown = _printable(results)
    captions = [(printable(caption), picture) for caption, picture in pictures]
    agreement = shown.get("agreement")
    measures = agreement["measures"] if agreement else {}
    plots = {f"bland_altman_{key}.png": draw_bland_altman(measure) for key, measure in measures.items()}
    agreed = [(measure["title"], plot) for measure, plot in zip(measures.values(), plots.values(), strict=True)]
    texts = {
        "results.json": json.dumps(_nan_to_none(shown), indent=1, ensure_ascii=False, allow_nan=False),
        "cases.csv": _csv(_case_rows(shown)),
        "summary.csv": _csv(_summary_rows(shown)),
        "report.html": render_html_report(shown, captions, agreed),
    }
    if agreement:
        texts |= {"patients.csv": _csv(_patient_rows(agreement)), "agreement.csv": _csv(_agreement_rows(measures))}
    files = {name: text.encode("utf-8") for name, text in texts.items()} | plots
    stale = {path for pattern in AGREEMENT_FILES for path in Path(output_dir).glob(pattern) if path.name not in files}
    for path in filter(is_own, stale):  # else an earlier run's patients would be taken for these
        path.unlink()
    for name, content in files.items():
        with own_path(Path(output_dir) / name, overwrite) as temporary:
            temporary.write_bytes(content)
    return list(files)


def format_results_text(results: Mapping[str, Any]) -> str:
    """
    Args:
        results: as :py:func:`evaluation_results` gives them.

    Returns:
        aligned text: one line for each class, mean and standard deviation of each metric; then the pooled scores, and
        bias and limits of agreement where there are such.
    """
    metrics = results["metrics"]
    class_names = [printable(name) for name in results["class_names"]]
    lines = [["class", *(f"{name} (n)" for name in metrics)]]
    for index, class_name in enumerate([*class_names, "mean"]):
        lines.append([class_name, *(_cell(metric["summary"][index]) for metric in metrics.values())])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    counts = (results.get("confusion_matrix") or {}).get("counts", ())
    counted = "each class by itself" if np.ndim(counts) == 3 else "background counted"
    for name, metric in results["pooled"].items():
        row = metric["summary"][-1]
        ends = f"95 % interval {row['ci95_low']:.3f} to {row['ci95_high']:.3f}"
        if math.isnan(row["ci95_low"]):
            ends = "no interval from one case"
        text.append(f"{name}, {counted}: {row['mean']:.3f} ({ends})")
    agreement = results.get("agreement") or {"measures": {}}
    for measure in agreement["measures"].values():
        limits = f"limits of agreement {measure['limit_low']:.2f} to {measure['limit_high']:.2f}"
        text.append(f"{measure['title']} ({measure['unit']}): bias {measure['bias']:.2f}, {limits}, n {measure['n']}")
    n_cases = len(results["cases"])
    title = f"Evaluation of {n_cases} cases, mean +- standard deviation over the n that have a value:"
    return "\n".join([title, *text])


def _case_rows(results: Mapping[str, Any]) -> list[list[Any]]:
    metrics = results["metrics"]
    rows = [
        [case, class_name, *(metric["values"][n][c] for metric in metrics.values())]
        for n, case in enumerate(results["cases"])
        for c, class_name in enumerate(results["class_names"])
    ]
    return [["case", "class", *metrics], *rows]


def _summary_rows(results: Mapping[str, Any]) -> list[list[Any]]:
    rows = [
        [name, row["class"], *(row.get(column, math.nan) for column in _COLUMNS), row["n_valid"]]
        for name, metric in {**results["metrics"], **results["pooled"]}.items()
        for row in metric["summary"]
    ]
    return [["metric", "class", *_COLUMNS, "n_valid"], *rows]


def _patient_rows(agreement: Mapping[str, Any]) -> list[list[Any]]:
    rows = [
        [patient, key, measure["unit"], reference, predicted, predicted - reference]
        for key, measure in agreement["measures"].items()
        for patient, reference, predicted in zip(
            agreement["patients"], measure["reference"], measure["predicted"], strict=True
        )
    ]
    return [["patient", "measure", "unit", "reference", "predicted", "difference"], *rows]


def _agreement_rows(measures: Mapping[str, Any]) -> list[list[Any]]:
    columns = ("unit", "n", "bias", "sd", "limit_low", "limit_high")
    return [["measure", *columns], *([key, *(measure[name] for name in columns)] for key, measure in measures.items())]


def _cell(row: Mapping[str, Any]) -> str:
    spread = "" if math.isnan(row["std"]) else f" +- {row['std']:.3f}"  # the mean of the classes has none
    return f"{row['mean']:.3f}{spread} ({row['n_valid']})"


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    """Numbers with six decimals, and no text that a spreadsheet takes for a formula."""
    text = io.StringIO()
    cells = [[f"{cell:.6f}" if isinstance(cell, float) else spreadsheet_cell(cell) for cell in row] for row in rows]
    csv.writer(text).writerows(cells)
    return text.getvalue()


def _printable(value: Any) -> Any:
    """Names of cases, classes and files come from outside."""
    if isinstance(value, Mapping):
        return {_printable(key): _printable(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_printable(entry) for entry in value]
    return printable(value) if isinstance(value, str) else value


def _nan_to_none(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, Mapping):
        return {key: _nan_to_none(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_nan_to_none(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
