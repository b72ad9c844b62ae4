# SPDX-License-Identifier: Apache-2.0
"""The tables of a comparison."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from ..utils.files import atomic_path
from .config import ComparisonConfig
from .grid import ComparisonCell

__all__ = ["cell_rows", "comparison_notes", "markdown_table", "method_rows", "write_csv", "write_markdown"]

_DASH = "-"


def cell_rows(cells: Sequence[ComparisonCell], errors: Mapping[ComparisonCell, str]) -> list[dict[str, Any]]:
    """One row for each cell: its score and what was trained, or why there is none."""
    rows = []
    for cell in cells:
        result = cell.result() or {}
        state = "finished" if result else "failed" if cell in errors else "waiting"
        rows.append(
            {"dataset": cell.dataset, "method": cell.method, "seed": cell.seed, "metric": cell.metric, "state": state}
            | {key: result.get(key, "") for key in ("score", "cases", "epochs", "iterations", "best_epoch", "seconds")}
            | {"larger_is_better": result.get("larger_is_better", ""), "error": errors.get(cell, "")}
        )
    return rows


def method_rows(
    rows: Sequence[Mapping[str, Any]], costs: Mapping[tuple[str, str], Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """
    One row for each method on each data set: mean and deviation of its scores over seeds, and what it costs.

    Args:
        rows: of the cells.
        costs: by data set and method.

    Returns:
        ``std`` is that of a sample, NaN for fewer than two scores, and ``mean`` NaN without any. ``epochs`` and
        ``iterations`` are those that were trained, the fewest of all seeds.
    """
    table = []
    smaller_is_better = {row["dataset"] for row in rows if row["larger_is_better"] is False}
    for dataset, method in dict.fromkeys((row["dataset"], row["method"]) for row in rows):
        own = [row for row in rows if (row["dataset"], row["method"]) == (dataset, method)]
        done = [row for row in own if row["state"] == "finished"]
        scores = [row["score"] for row in done]
        table.append(
            {
                "dataset": dataset,
                "method": method,
                "metric": own[0]["metric"],
                "larger_is_better": dataset not in smaller_is_better,
                "mean": mean(scores) if scores else float("nan"),
                "std": stdev(scores) if len(scores) > 1 else float("nan"),
                "seeds": len(scores),
                "epochs": min((row["epochs"] for row in done), default=0),
                "iterations": min((row["iterations"] for row in done), default=0),
                **costs.get((dataset, method), {}),
            }
        )
    return table


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows of the same keys as a table."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_markdown(title: str, rows: Sequence[Mapping[str, Any]], notes: Sequence[str], path: Path) -> None:
    """
    Write the papers' table, methods in rows and data sets in columns, then scores and costs for each data set.

    Args:
        title: heading.
        rows: of :func:`method_rows`. The best mean of a data set is bold.
        notes: sentences below the tables.
        path: the file.
    """
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    by_place = {(row["dataset"], row["method"]): row for row in rows}
    best = {dataset: _best([row for row in rows if row["dataset"] == dataset]) for dataset in datasets}

    def score(dataset: str, method: str) -> str:
        row = by_place[dataset, method]
        return f"**{_score(row)}**" if method == best[dataset] else _score(row)

    heads = [f"{name} ({by_place[name, methods[0]]['metric']})" for name in datasets]
    overview = [[method, *(score(dataset, method) for dataset in datasets)] for method in methods]
    lines = [f"# {title}", "", *markdown_table(["method", *heads], overview)]
    for dataset in datasets:
        own = [by_place[dataset, method] for method in methods]
        cells = [[row["method"], score(dataset, row["method"]), str(row["seeds"]), *_costs(row)] for row in own]
        heads = ["method", own[0]["metric"], "seeds", "iterations", "trained parameters", "all parameters", "GMACs"]
        lines += ["", f"## {dataset}", "", *markdown_table([*heads, "latency", "peak memory"], cells)]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join([*lines, "", *(f"- {note}" for note in notes), ""]), encoding="utf-8")


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table; all columns but the first are set to the right."""
    rule = ["---"] + ["---:"] * (len(heads) - 1)
    return [f"| {' | '.join(row)} |" for row in (heads, rule, *rows)]


def comparison_notes(
    config: ComparisonConfig,
    rows: Sequence[Mapping[str, Any]],
    costs: Mapping[tuple[str, str], Mapping[str, Any]],
) -> list[str]:
    """What a reader has to know to compare the numbers with others, from the rows of the cells."""
    notes = []
    for dataset in config.datasets:
        own = [row for row in rows if row["dataset"] == dataset and row["state"] == "finished"]
        shapes = sorted({str(tuple(cost["input_shape"])) for place, cost in costs.items() if place[0] == dataset})
        trunk = config.datasets[dataset].get("trunk")
        options = config.options_of(dataset, next(iter(config.methods)))
        weights = options.get("sam2_checkpoint", "what the bundle names as sam2_checkpoint")
        if trunk:
            weights = f"the trunk {trunk}, trained on {config.trunks[trunk]['dataset']} first"
        cases = f"{own[0]['cases']} test cases" if own else "not evaluated yet"
        notes.append(f"{dataset}: {cases}; costs of one image of {', '.join(shapes)}; adapts {weights}.")
    missing = sum(row["state"] != "finished" for row in rows)
    if missing:
        notes.append(f"{missing} of {len(rows)} trainings have no score; see results.csv.")
    if len(config.seeds) > 1:
        notes.append("± is the standard deviation over seeds, of a sample. It holds no other source of chance.")
    machines = "; ".join(dict.fromkeys(cost["machine"] for cost in costs.values()))
    notes.append(
        "MACs count linear layers, convolutions, deformable ones, attention and resampling; latency and peak memory "
        "are those of a forward pass in float32. All three are those of inference, with LW-Adapters and LoRA fused. "
        f"Measured on {machines}."
    )
    return notes


def _best(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The method with the best mean, when there are several to choose from."""
    scored = [row for row in rows if row["seeds"]]
    if len(scored) < 2:
        return None
    sign = 1 if scored[0]["larger_is_better"] else -1
    return max(scored, key=lambda row: sign * row["mean"])["method"]


def _score(row: Mapping[str, Any]) -> str:
    if not row["seeds"]:
        return _DASH
    return f"{row['mean']:.3f}" + (f" ± {row['std']:.3f}" if row["seeds"] > 1 else "")


def _costs(row: Mapping[str, Any]) -> list[str]:
    iterations = str(row["iterations"]) if row["seeds"] else _DASH
    if "macs" not in row:
        return [iterations, *[_DASH] * 5]
    milliseconds = 1e3 * row["latency"]
    return [
        iterations,
        f"{row['trained_parameters'] / 1e6:.2f} M",
        f"{row['total_parameters'] / 1e6:.2f} M",
        f"{row['macs'] / 1e9:.2f}",
        f"{milliseconds:.0f} ms" if milliseconds >= 100 else f"{milliseconds:.3g} ms",
        f"{row['peak_memory'] / 1e6:.0f} MB",
    ]
