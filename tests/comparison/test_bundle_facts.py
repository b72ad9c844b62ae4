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
from monai_sam2adapter.comparison.bundle_facts import check_cells, check_keys, reason_of

MakeCell = Callable[..., ComparisonCell]

TRUNK = {"adapter": "full", "positional_encoding": "sam2"}


class TestCheckCells:
    def test_what_bundles_say_and_data_are_known_by_their_cases(self, make_cell: MakeCell, tmp_path: Path) -> None:
        for name, numbers in (("same", {}), ("other", {"num_train": 2})):
            few = {"num_train": 1, "num_val": 1, "num_test": 1, **numbers}
            data.write_acdc_phantom(tmp_path / name, progress=False, **few)
        trunk = make_cell("t", metric=None, options=TRUNK)
        moved, other = (make_cell(name, dataset_dir=str(tmp_path / name)) for name in ("same", "other"))
        facts = check_cells([trunk], [make_cell(), make_cell("hp", metric="dice"), moved, other])
        lw = facts["hearts", "lw"]
        assert (lw.device, lw.variant, lw.epochs, lw.val_interval) == ("cpu", "tiny", 2, 1)
        assert lw == facts["hearts", "hp"] == facts["hearts", "same"]
        assert lw.cases != facts["hearts", "other"].cases
        assert lw.cases != facts["", "t"].cases  # which is not tested

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
        object.__setattr__(cell, "options", {**cell.options, "encoder": "dinov3"})
        with pytest.raises(ValueError, match="encoder 'dinov3' cannot adapt the trunk t, which is 'sam2'"):
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


def test_the_reason_is_the_first_error() -> None:
    error = RuntimeError("Failed to evaluate")
    error.__cause__ = ValueError("the   reason\nitself")
    assert reason_of(error) == "the reason itself"
    assert reason_of(KeyError()) == "KeyError"
