# SPDX-License-Identifier: Apache-2.0
"""Cells and their files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from monai_sam2adapter.comparison import ComparisonCell


class TestComparisonCell:
    def test_is_read_as_it_was_written(self, make_cell: Callable[..., ComparisonCell], tmp_path: Path) -> None:
        cell = make_cell(trunk="somewhere/trunk.pt")
        assert ComparisonCell.read(tmp_path) is None
        cell.write(tmp_path)
        assert ComparisonCell.read(tmp_path) == cell
        assert ComparisonCell.read(tmp_path).differences(cell) == []

    def test_folders_differ_by_data_set_method_and_seed(self, make_cell: Callable[..., ComparisonCell]) -> None:
        output = Path("out")
        assert make_cell("hp", 3).folder(output) == output / "cells" / "hearts" / "hp" / "seed_3"
        assert make_cell("membranes", metric=None).folder(output) == output / "trunks" / "membranes"

    def test_differences_are_named_and_those_of_place_and_machine_left_out(
        self, make_cell: Callable[..., ComparisonCell]
    ) -> None:
        cell = make_cell()
        moved = make_cell(dataset_dir="elsewhere", bundle="other/acdc_cardiac_segmentation", options={"device": "cuda"})
        assert moved.differences(cell) == []
        assert make_cell(options={"epochs": 2.0}).differences(cell) == []
        adapts = {"name": "membranes", "epochs": 3}
        other = make_cell(metric="dice", trunk="trunk.pt", adapts=adapts, cases="ab12", options={"epochs": 5})
        assert other.differences(cell) == [
            'checksum of the cases was "", is "ab12"',
            "epochs was 2, is 5",
            'metric was "miou_pooled", is "dice"',
            "trunk epochs was left out, is 3",
            'trunk name was left out, is "membranes"',
        ]
        assert make_cell(options={"learning_rate": 0.1}).differences(cell) == ["learning_rate was left out, is 0.1"]

    def test_a_trunk_takes_the_place_of_sam2s_weights(self, make_cell: Callable[..., ComparisonCell]) -> None:
        assert make_cell(trunk="trunk.pt").common_options()["sam2_checkpoint"] == "trunk.pt"
        assert make_cell().common_options()["sam2_checkpoint"] == "random"

    def test_result(self, make_cell: Callable[..., ComparisonCell], tmp_path: Path) -> None:
        assert ComparisonCell.result(tmp_path) is None
        ComparisonCell.write_result({"score": 0.5}, tmp_path)
        assert ComparisonCell.result(tmp_path) == {"score": 0.5}
