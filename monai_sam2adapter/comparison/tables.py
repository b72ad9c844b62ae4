# SPDX-License-Identifier: Apache-2.0
"""The tables of a comparison; the words of table.md and race.md are in the templates of these names."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from jinja2 import Environment, PackageLoader

from ..utils import atomic_path, spreadsheet_cell
from .config import ComparisonConfig
from .grid import ComparisonCell

__all__ = ["cell_rows", "method_rows", "table_values", "write_csv", "write_markdown"]


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

    ``std`` is that of a sample, NaN for fewer than two scores, and ``mean`` NaN without any; ``epochs`` and
    ``iterations`` are the fewest of all seeds.
    """
    smaller_is_better = {row["dataset"] for row in rows if row["larger_is_better"] is False}
    places: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        places.setdefault((row["dataset"], row["method"]), []).append(row)
    table = []
    for (dataset, method), own in places.items():
        done = [row for row in own if row["state"] == "finished"]
        scores = [row["score"] for row in done]
        table.append(
            {
                "dataset": dataset,
                "method": method,
                "metric": own[0]["metric"],
                "larger_is_better": dataset not in smaller_is_better,
                "mean": mean(scores) if scores else math.nan,
                "std": stdev(scores) if len(scores) > 1 else math.nan,
                "seeds": len(scores),
                "epochs": min((row["epochs"] for row in done), default=0),
                "iterations": min((row["iterations"] for row in done), default=0),
                **costs.get((dataset, method), {}),
            }
        )
    return table


def table_values(
    config: ComparisonConfig,
    cells: Sequence[Mapping[str, Any]],
    methods: Sequence[Mapping[str, Any]],
    costs: Mapping[tuple[str, str], Mapping[str, Any]],
) -> dict[str, Any]:
    """What the template of ``table.md`` says of a comparison, from the rows of its cells and its methods."""
    scores: dict[tuple[str, str], str] = {}
    for row in methods:
        spread = f" ± {row['std']:.3f}" if row["seeds"] > 1 else ""
        scores[row["dataset"], row["method"]] = f"{row['mean']:.3f}{spread}" if row["seeds"] else "-"
    notes = []
    for name, dataset in config.datasets.items():
        own = [row for row in methods if row["dataset"] == name and row["seeds"]]
        if len(own) > 1:
            best = max(own, key=lambda row: row["mean"] if row["larger_is_better"] else -row["mean"])["method"]
            scores[name, best] = f"**{scores[name, best]}**"
        cases = [f"{row['cases']} test cases" for row in cells if row["dataset"] == name and row["state"] == "finished"]
        shapes = sorted({str(tuple(cost["input_shape"])) for place, cost in costs.items() if place[0] == name})
        options = config.options_of(name, next(iter(config.methods.values())))
        weights = options.get("sam2_checkpoint", "what the bundle names as sam2_checkpoint")
        if "trunk" in dataset:
            weights = (
                f"the trunk {dataset['trunk']}, trained on {', then '.join(config.seen_by(dataset['trunk']))} first"
            )
        tested = cases[0] if cases else "not evaluated yet"
        notes.append(f"{name}: {tested}; costs of one image of {', '.join(shapes)}; adapts {weights}.")
    return {
        "title": config.title,
        "datasets": [(name, [row for row in methods if row["dataset"] == name]) for name in config.datasets],
        "methods": list(config.methods),
        "scores": scores,
        "notes": notes,
        "missing": sum(row["state"] != "finished" for row in cells),
        "num_cells": len(cells),
        "num_seeds": len(config.seeds),
        "machines": "; ".join(dict.fromkeys(cost["machine"] for cost in costs.values())),
    }


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows of the same keys as a table."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: spreadsheet_cell(value) for key, value in row.items()} for row in rows)


def write_markdown(path: Path, **values: Any) -> str:
    """Fill in the template of a file's name, write the file, and return its text."""
    loader = PackageLoader("monai_sam2adapter", "comparison")
    environment = Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    text = environment.get_template(path.name).render(values)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text
