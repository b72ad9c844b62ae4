# SPDX-License-Identifier: Apache-2.0
"""The tables, from numbers that can be checked by hand, and the plot."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monai_sam2adapter.comparison import ComparisonCell, ComparisonConfig
from monai_sam2adapter.comparison.plot import draw_comparison, write_plot
from monai_sam2adapter.comparison.tables import cell_rows, method_rows, table_values, write_csv, write_markdown
from monai_sam2adapter.utils import write_json

MakeCell = Callable[..., ComparisonCell]

COST = {
    **{"input_shape": [1, 1, 32, 32], "trained_parameters": 1_230_000, "total_parameters": 30_000_000},
    **{"macs": 4_560_000_000, "peak_memory": 200_000_000, "latency": 0.0312, "machine": "a machine"},
}


CONFIG = ComparisonConfig(
    title="A title",
    datasets={"hearts": {"bundle": "acdc_cardiac_segmentation", "dataset_dir": "somewhere"}},
    methods={"hp": {}, "lw": {}, "lora": {}},
    seeds=[0, 1],
)


@pytest.fixture
def rows(make_cell: MakeCell) -> list[dict[str, Any]]:
    """Two scores of hp, one of lw whose other seed failed, none of lora."""
    cells = [make_cell(method, seed) for seed in (0, 1) for method in ("hp", "lw", "lora")]
    for number, score, iterations in ((0, 0.5, 30), (1, 0.59, 30), (3, 0.7, 28)):
        result = {"score": score, "larger_is_better": True, "cases": 2, "epochs": 3, "iterations": iterations}
        write_json({**result, "seconds": 9}, cells[number].result_file)
    return cell_rows(cells, {cells[4]: "no luck"})


class TestTables:
    def text(self, rows: list[dict[str, Any]], path: Path) -> str:
        costs = {("hearts", "hp"): COST}
        values = table_values(CONFIG, rows, method_rows(rows, costs), costs)
        text = write_markdown(path / "table.md", **values)
        assert (path / "table.md").read_text(encoding="utf-8") == text
        return text

    def test_a_row_for_each_cell(self, rows: list[dict[str, Any]], tmp_path: Path) -> None:
        assert [row["state"] for row in rows] == ["finished", "finished", "waiting", "finished", "failed", "waiting"]
        assert rows[4]["error"] == "no luck"
        write_csv(rows, tmp_path / "results.csv")
        with (tmp_path / "results.csv").open(newline="", encoding="utf-8") as file:
            assert [row["score"] for row in csv.DictReader(file)] == ["0.5", "0.59", "", "0.7", "", ""]

    def test_mean_and_deviation_of_a_sample(self, rows: list[dict[str, Any]]) -> None:
        hp, lw, lora = method_rows(rows, {("hearts", "hp"): COST})
        assert hp["mean"] == pytest.approx(0.6)
        assert hp["std"] == pytest.approx(math.sqrt(0.02))  # (0.1 ** 2 + 0.1 ** 2) / (2 - 1)
        assert (hp["seeds"], hp["iterations"], hp["macs"]) == (2, 28, 4_560_000_000)
        assert (lw["mean"], lw["seeds"], math.isnan(lw["std"])) == (0.59, 1, True)
        assert (math.isnan(lora["mean"]), lora["seeds"]) == (True, 0)

    def test_markdown(self, rows: list[dict[str, Any]], tmp_path: Path) -> None:
        rule = "| --- |" + " ---: |" * 8
        assert self.text(rows, tmp_path).splitlines()[:-1] == [
            *("# A title", "", "| method | hearts (miou_pooled) |", "| --- | ---: |", "| hp | **0.600 ± 0.141** |"),
            *("| lw | 0.590 |", "| lora | - |", "", "## hearts", ""),
            "| method | miou_pooled | seeds | iterations | trained parameters | all parameters | GMACs | latency | "
            "peak memory |",
            rule,
            "| hp | **0.600 ± 0.141** | 2 | 28 | 1.23 M | 30.00 M | 4.56 | 31.2 ms | 200 MB |",
            "| lw | 0.590 | 1 | 30 | - | - | - | - | - |",
            "| lora | - | 0 | - | - | - | - | - | - |",
            "",
            "- hearts: 2 test cases; costs of one image of (1, 1, 32, 32); adapts what the bundle names as "
            "sam2_checkpoint.",
            "- 3 of 6 trainings have no score; see results.csv.",
            "- ± is the standard deviation over seeds, of a sample. It holds no other source of chance.",
        ]

    def test_where_smaller_is_better_the_smallest_is_best(self, rows: list[dict[str, Any]], tmp_path: Path) -> None:
        for row in rows:
            row["larger_is_better"] = False
        assert "| lw | **0.590** |" in self.text(rows, tmp_path)

    def test_which_way_is_better_is_known_from_any_score_of_the_data_set(self, rows: list[dict[str, Any]]) -> None:
        rows[1]["larger_is_better"] = False
        for row in (rows[0], rows[3]):
            row.update(state="failed", score="", larger_is_better="")
        assert [row["larger_is_better"] for row in method_rows(rows, {})] == [False, False, False]


class TestPlot:
    @staticmethod
    def row(dataset: str, method: str, mean: float, **others: Any) -> dict[str, Any]:
        common = {"metric": "miou_pooled", "larger_is_better": True, "std": 0.01, "seeds": 3, "macs": 5_000_000_000}
        return {"dataset": dataset, "method": method, "mean": mean, **common, **others}

    @property
    def rows(self) -> list[dict[str, Any]]:
        hearts = [self.row("hearts", "hp", 0.5), self.row("hearts", "lw", 0.4, macs=4e9, std=math.nan, seeds=1)]
        return [*hearts, self.row("cells", "hp", 0.7), self.row("cells", "lw", math.nan, seeds=0)]

    def test_each_data_set_has_a_panel_with_a_point_for_each_score(self) -> None:
        figure = draw_comparison("A $title", self.rows)
        panels = {axes.get_title(): axes for axes in figure.axes}
        points = {name: [tuple(line[0].get_xydata()[0]) for line in axes.containers] for name, axes in panels.items()}
        assert points == {"hearts": [(5.0, 0.5), (4.0, 0.4)], "cells": [(5.0, 0.7)]}
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["hp", "lw"]
        assert [len(container[2]) for container in panels["hearts"].containers] == [1, 0]  # error bars

    def test_the_same_numbers_give_the_same_files_also_when_nothing_is_scored(self, tmp_path: Path) -> None:
        for rows in (self.rows, [self.row("hearts", "hp", math.nan, seeds=0)]):
            for name in ("first", "second"):
                write_plot("A title", rows, tmp_path / name)
            for name in ("plot.png", "plot.svg"):
                assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
            assert (tmp_path / "first" / "plot.png").read_bytes()[:4] == b"\x89PNG"
