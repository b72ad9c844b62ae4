# SPDX-License-Identifier: Apache-2.0
"""The plot of accuracy over computation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai_sam2adapter.comparison.plot import draw_comparison, write_plot


def row(dataset: str, method: str, mean: float, **others: Any) -> dict[str, Any]:
    common = {"metric": "miou_pooled", "larger_is_better": True, "std": 0.01, "seeds": 3, "macs": 5_000_000_000}
    return {"dataset": dataset, "method": method, "mean": mean, **common, **others}


ROWS = [
    row("hearts", "hp", 0.5),
    row("hearts", "lw", 0.4, macs=4_000_000_000, std=float("nan"), seeds=1),
    row("cells", "hp", 0.7),
    row("cells", "lw", float("nan"), seeds=0),
]


def test_each_data_set_has_a_panel_with_a_point_for_each_score() -> None:
    figure = draw_comparison("A $title", ROWS)
    panels = {axes.get_title(): axes for axes in figure.axes}
    points = {name: [tuple(line[0].get_xydata()[0]) for line in axes.containers] for name, axes in panels.items()}
    assert points == {"hearts": [(5.0, 0.5), (4.0, 0.4)], "cells": [(5.0, 0.7)]}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["hp", "lw"]
    assert [len(container[2]) for container in panels["hearts"].containers] == [1, 0]  # error bars


def test_nothing_scored_yet_is_an_empty_plot(tmp_path: Path) -> None:
    write_plot("A title", [row("hearts", "hp", float("nan"), seeds=0)], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"plot.png", "plot.svg"}


def test_the_same_numbers_give_the_same_files(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_plot("A title", ROWS, tmp_path / name)
    for name in ("plot.png", "plot.svg"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert (tmp_path / "first" / "plot.png").read_bytes()[:4] == b"\x89PNG"
