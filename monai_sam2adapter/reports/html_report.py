# SPDX-License-Identifier: Apache-2.0
"""The results of an evaluation as one page that needs no other file."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from ..metrics import case_means
from ..visualize.box_plot import draw_box_plot

__all__ = ["render_html_report"]

_STYLE = """
body { font-family: system-ui, sans-serif; color: #1c1c1c; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.2rem; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.7rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
tbody tr.mean { font-weight: bold; }
small { color: #555; font-weight: normal; white-space: nowrap; }
figure { margin: 1rem 0; }
figure img { max-width: 100%; }
.wide { overflow-x: auto; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; }
dt { font-weight: bold; margin-top: 0.6rem; }
dl.about { display: grid; grid-template-columns: max-content auto; gap: 0.2rem 1rem; }
dl.about dt, dl.about dd { margin: 0; overflow-wrap: anywhere; }
table.matrix { font-size: 0.85rem; }
table.matrix td { padding: 0.2rem 0.4rem; white-space: nowrap; }
table.matrix thead th { writing-mode: vertical-rl; padding: 0.3rem; vertical-align: bottom; }
"""


def render_html_report(results: Mapping[str, Any], pictures: Sequence[tuple[str, bytes]] = ()) -> str:
    """
    Write the page. Nothing in it is loaded from elsewhere; a browser shows it from a mail or without a network.

    Args:
        results: as :py:func:`evaluation_results` gives them, and ``title`` (text) and ``about`` (what to say of the
            run, texts by their names).
        pictures: captions and PNG files of example cases.

    Returns:
        HTML that is well-formed XML, too.
    """
    parts = [
        f"<h1>{escape(results['title'])}</h1>",
        _definitions({"cases": len(results["cases"]), **results["about"]}, "about"),
        *_summary(results),
        *_pooled(results),
        *_box_plots(results),
        *_confusion(results["confusion_matrix"]),
        *_examples(results, pictures),
        *_cases(results),
        "<h2>What the numbers mean</h2>",
        _definitions(
            {
                metric["title"]: metric["protocol"]
                for metric in [*results["metrics"].values(), *results["pooled"].values()]
            }
        ),
        "<p>Intervals hold 95 % of the values that a score takes when as many cases as there are, are drawn from them "
        "with replacement (percentile bootstrap). They tell what depends on the choice of cases, not on the seed of "
        "the training, and are too narrow below some 20 cases. A dash stands for what cannot be computed: there is no "
        "mean without a case that has a value, and no interval with fewer than two.</p>",
    ]
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>{escape(results['title'])}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _summary(results: Mapping[str, Any]) -> list[str]:
    metrics = results["metrics"].values()
    if not metrics:
        return []
    rows = []
    for index, name in enumerate([*results["class_names"], "mean"]):
        cells = [metric["summary"][index] for metric in metrics]
        # what the classes' deviations and medians average to means little
        notes = [_count(cell) if index == len(results["class_names"]) else _spread(cell) for cell in cells]
        rows.append([escape(name), *(_interval(cell) + note for cell, note in zip(cells, notes, strict=True))])
    return [
        "<h2>Each case scored</h2>",
        "<p>Mean over the n cases that have a value [95 % interval]; standard deviation (sd) and median of these cases."
        "</p>",
        _table(["class", *(metric["title"] for metric in metrics)], rows, last_is_mean=True),
    ]


def _pooled(results: Mapping[str, Any]) -> list[str]:
    metrics = results["pooled"].values()
    if not metrics:
        return []
    names = [row["class"] for row in next(iter(metrics))["summary"]]
    rows = []
    for index, name in enumerate(names):
        cells = [metric["summary"][index] for metric in metrics]
        rows.append([escape(name), *(_interval(cell) + _count(cell) for cell in cells)])
    return [
        "<h2>All voxels pooled</h2>",
        "<p>One score from the voxels of all cases together [95 % interval over cases].</p>",
        _table(["class", *(metric["title"] for metric in metrics)], rows, last_is_mean=True),
    ]


def _box_plots(results: Mapping[str, Any]) -> list[str]:
    figures = []
    for metric in results["metrics"].values():
        values = np.array(metric["values"], dtype=float)
        if not np.isnan(values).all():
            is_distance = not metric["larger_is_better"] and np.nanmax(values) > 1  # an absolute error is below
            picture = draw_box_plot(values, results["class_names"], metric["title"], logarithmic=is_distance)
            scale = ", logarithmic above 1" if is_distance else ""
            figures.append(_figure(picture, f"{metric['title']} of each case and class{scale}"))
    return ["<h2>Spread over the cases</h2>", f'<div class="plots">{"".join(figures)}</div>'] if figures else []


def _confusion(confusion: Mapping[str, Any] | None) -> list[str]:
    if confusion is None:
        return []
    names = confusion["class_names"]
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = []
    for name, counts in zip(names, confusion["counts"], strict=True):
        shares = [count / max(sum(counts), 1) for count in counts]
        cells = (
            f'<td style="background: rgba(0, 100, 200, {0.6 * share:.2f})">{100 * share:.1f} %<br/>{count:,}</td>'
            for share, count in zip(shares, counts, strict=True)
        )
        rows.append(f"<tr><th>{escape(name)}</th>{''.join(cells)}</tr>")
    return [
        "<h2>Confusion matrix</h2>",
        "<p>Voxels of all cases: truth in rows, prediction in columns; percent of the row's voxels, and how many.</p>",
        f'<div class="wide"><table class="matrix"><thead><tr><td></td>{head}</tr></thead>\n'
        f"<tbody>{chr(10).join(rows)}</tbody></table></div>",
    ]


def _examples(results: Mapping[str, Any], pictures: Sequence[tuple[str, bytes]]) -> list[str]:
    if not pictures:
        return []
    first = next(iter(results["metrics"].values()))["title"]
    return [
        "<h2>Examples</h2>",
        f"<p>Chosen by the mean of {escape(first)} over the classes that the case has.</p>",
        *(_figure(picture, caption) for caption, picture in pictures),
    ]


def _cases(results: Mapping[str, Any]) -> list[str]:
    metrics = results["metrics"].values()
    if not metrics:
        return []
    columns = [case_means(np.array(metric["values"], dtype=float).T) for metric in metrics]
    rows = [
        [escape(case), *(_number(value) for value in values)]
        for case, *values in zip(results["cases"], *columns, strict=True)
    ]
    table = _table(["case", *(metric["title"] for metric in metrics)], rows)
    return ["<h2>All cases</h2>", f"<details><summary>Mean over the classes of each case</summary>{table}</details>"]


def _table(header: Iterable[str], rows: Sequence[Sequence[str]], last_is_mean: bool = False) -> str:
    """Cells of the rows are HTML, those of the header are text."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = []
    for index, row in enumerate(rows):
        kind = ' class="mean"' if last_is_mean and index == len(rows) - 1 else ""
        body.append(f"<tr{kind}>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>")
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{chr(10).join(body)}</tbody></table></div>'


def _definitions(entries: Mapping[str, Any], kind: str = "text") -> str:
    pairs = "".join(f"<dt>{escape(str(name))}</dt><dd>{escape(str(text))}</dd>" for name, text in entries.items())
    return f'<dl class="{kind}">{pairs}</dl>'


def _figure(png: bytes, caption: str) -> str:
    source = f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
    text = escape(caption)
    return f'<figure><img src="{source}" alt="{text}"/><figcaption>{text}</figcaption></figure>'


def _interval(row: Mapping[str, Any]) -> str:
    return f"{_number(row['mean'])} <small>[{_number(row['ci95_low'])}, {_number(row['ci95_high'])}]</small>"


def _spread(row: Mapping[str, Any]) -> str:
    spread = f"sd {_number(row['std'])}, median {_number(row['median'])}"
    return f"<br/><small>{spread}, n {row['n_valid']}</small>"


def _count(row: Mapping[str, Any]) -> str:
    return f"<br/><small>n {row['n_valid']}</small>"


def _number(value: float) -> str:
    return "&#8211;" if math.isnan(value) else f"{value:.3f}"
