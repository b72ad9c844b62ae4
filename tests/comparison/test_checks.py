# SPDX-License-Identifier: Apache-2.0
"""What is found before the first training."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monai_sam2adapter import data
from monai_sam2adapter.comparison import ComparisonCell
from monai_sam2adapter.comparison.checks import check_cells, check_earlier_runs, check_keys, reason_of

MakeCell = Callable[..., ComparisonCell]

TRUNK = {"adapter": "full", "positional_encoding": "sam2"}


class TestCheckCells:
    def test_good_cells_pass(self, make_cell: MakeCell) -> None:
        trunk = make_cell("t", metric=None, options=TRUNK)
        of_trunk, first, second = check_cells([trunk], [make_cell(), make_cell("hp", metric="dice")])
        assert first == second
        assert first.cases != of_trunk.cases  # which is not tested
        assert (first.device, first.variant, first.epochs, first.val_interval) == ("cpu", "tiny", 2, 1)

    def test_the_checksum_is_that_of_the_data_not_of_its_place(self, make_cell: MakeCell, tmp_path: Path) -> None:
        for name, numbers in (("same", {}), ("other", {"num_train": 2})):
            few = {"num_train": 1, "num_val": 1, "num_test": 1, **numbers}
            data.write_acdc_phantom(tmp_path / name, progress=False, **few)
        places = [{}, {"dataset_dir": str(tmp_path / "same")}, {"dataset_dir": str(tmp_path / "other")}]
        first, same, other = check_cells([], [make_cell(str(n), **place) for n, place in enumerate(places)])
        assert first.cases == same.cases
        assert first.cases != other.cases

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"bundle": "absent"}, "there is no absent/configs/train.json; run compare in a checkout"),
            ({"options": {"adaptr": "hp"}}, "the bundle has no key 'adaptr' (option adaptr); did you mean adapter?"),
            ({"options": {"train#trainr#x": 1}}, "the bundle has no key 'trainr' (option train#trainr#x)"),
            ({"options": {"epochs": 3, "val_interval": 2}}, "epochs 3 must be a multiple of val_interval 2"),
            ({"options": {"epochs": "3"}}, "epochs must be a whole number from 1, got '3'"),
            ({"metric": "dise"}, "the bundle measures dice, iou, hd95_mm"),
            ({"dataset_dir": "absent"}, "absent"),
            ({"options": {"device": "cuda:99"}}, "there is no device cuda:99: PyTorch sees"),
            ({"options": {"fold": 77}}, "fold"),
        ],
        ids=str,
    )
    def test_ill_cell(self, make_cell: MakeCell, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=re.escape(message)) as error:
            check_cells([], [make_cell(**arguments)])
        assert str(error.value).startswith("hearts, lw, seed 0: ")

    def test_a_trunk_fits_its_own_variant_only_and_takes_the_place_of_other_weights(self, make_cell: MakeCell) -> None:
        trunk = make_cell("t", metric=None, options=TRUNK)
        cell = make_cell(trunk=trunk.trunk_file, options={"variant": "small"})
        object.__setattr__(cell, "options", {k: v for k, v in cell.options.items() if k != "sam2_checkpoint"})
        with pytest.raises(ValueError, match="variant 'small' cannot adapt the trunk t, which is 'tiny'"):
            check_cells([trunk], [cell])
        with pytest.raises(ValueError, match="sam2_checkpoint and a trunk exclude each other"):
            check_cells([trunk], [make_cell(trunk=trunk.trunk_file)])

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"adapter": "lw"}, r"the network has adapters, .* no names for"),
            ({"positional_encoding": "peg"}, "the network has positional_encoding"),
            ({"num_neighbors": 2}, "the network has input_projection"),
            ({"adapter": "none"}, r"image_encoder, .* would stay frozen; train a trunk with adapter 'full'"),
            ({"sam2_checkpoint": "absent.pt"}, r"there is no file absent\.pt"),
        ],
        ids=str,
    )
    def test_a_trunk_is_trained_as_a_whole(self, make_cell: MakeCell, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=f"trunk t, on hearts: {message}"):
            check_cells([make_cell("t", metric=None, options={**TRUNK, **options})], [])


class TestCheckKeys:
    CONFIG = {"epochs": 1, "train": {"handlers": [{"seed": 1}], "trainer": {}}}

    @pytest.mark.parametrize("key", ["epochs", "train#handlers#0#seed", "train#trainer#new", "train#handlers#0#new"])
    def test_known(self, key: str) -> None:
        check_keys([key], self.CONFIG)

    @pytest.mark.parametrize("key", ["epoch", "train#handlers#1#seed", "train#trainer#new#newer", "epochs#new#newer"])
    def test_unknown(self, key: str) -> None:
        with pytest.raises(ValueError, match="the bundle has no key"):
            check_keys([key], self.CONFIG)


def test_earlier_runs_with_other_settings_are_refused(make_cell: MakeCell) -> None:
    cell = make_cell()
    check_earlier_runs([cell])
    cell.write()
    check_earlier_runs([cell])
    with pytest.raises(ValueError, match=r"with other settings: epochs was 2, is 4\. Take another --output_dir"):
        check_earlier_runs([make_cell(options={"epochs": 4})])


def test_the_reason_is_the_first_error() -> None:
    error = RuntimeError("Failed to evaluate")
    error.__cause__ = ValueError("the   reason\nitself")
    assert reason_of(error) == "the reason itself"
    assert reason_of(KeyError()) == "KeyError"
