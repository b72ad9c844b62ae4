# SPDX-License-Identifier: Apache-2.0
"""What is found before the first training."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from monai_sam2adapter import data
from monai_sam2adapter.comparison import ComparisonCell, checks
from monai_sam2adapter.comparison.checks import check_cells, check_disk, check_earlier_runs, check_keys, reason_of

TRUNK = {"adapter": "full", "positional_encoding": "sam2"}


class TestCheckCells:
    def test_good_cells_pass(self, make_cell: Callable[..., ComparisonCell]) -> None:
        trunk = make_cell("t", metric=None, options=TRUNK)
        cells = [trunk, make_cell(), make_cell(metric="dice", trunk=None, options={"adapter": "hp"})]
        of_trunk, first, second = check_cells(cells)
        assert first == second
        assert first != of_trunk  # which is not tested

    def test_the_checksum_is_that_of_the_data_not_of_its_place(
        self, make_cell: Callable[..., ComparisonCell], tmp_path: Path
    ) -> None:
        for name, numbers in (("same", {}), ("other", {"num_train": 2})):
            few = {"num_train": 1, "num_val": 1, "num_test": 1, **numbers}
            data.write_acdc_phantom(tmp_path / name, progress=False, **few)
        places = [{}, {"dataset_dir": str(tmp_path / "same")}, {"dataset_dir": str(tmp_path / "other")}]
        first, same, other = check_cells([make_cell(**place) for place in places])
        assert first == same
        assert first != other

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
    def test_ill_cell(self, make_cell: Callable[..., ComparisonCell], arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=re.escape(message)) as error:
            check_cells([make_cell(**arguments)])
        assert str(error.value).startswith("hearts, lw, seed 0: ")

    def test_a_trunk_fits_its_own_variant_only(self, make_cell: Callable[..., ComparisonCell]) -> None:
        trunk = make_cell("t", metric=None, options=TRUNK)
        cell = make_cell(trunk="out/trunks/t/trunk.pt", options={"variant": "small"})
        with pytest.raises(ValueError, match="variant 'small' cannot adapt the trunk t, which is 'tiny'"):
            check_cells([trunk, cell])

    def test_a_trunk_is_trained_as_a_whole(self, make_cell: Callable[..., ComparisonCell]) -> None:
        with pytest.raises(ValueError, match=r"trunk t, on hearts: the network has adapters, .* no names for"):
            check_cells([make_cell("t", metric=None, options={**TRUNK, "adapter": "lw"})])
        with pytest.raises(ValueError, match="trunk t, on hearts: the network has positional_encoding"):
            check_cells([make_cell("t", metric=None, options={"adapter": "full"})])
        with pytest.raises(ValueError, match="trunk t, on hearts: the network has input_projection"):
            check_cells([make_cell("t", metric=None, options={**TRUNK, "num_neighbors": 2})])
        with pytest.raises(ValueError, match=r"image_encoder, .* would stay frozen; train a trunk with adapter 'full'"):
            check_cells([make_cell("t", metric=None, options={**TRUNK, "adapter": "none"})])
        with pytest.raises(ValueError, match=r"trunk t, on hearts: there is no file absent\.pt"):
            check_cells([make_cell("t", metric=None, options={**TRUNK, "sam2_checkpoint": "absent.pt"})])

    def test_a_trunk_and_other_weights_exclude_each_other(self, make_cell: Callable[..., ComparisonCell]) -> None:
        trunk = make_cell("t", metric=None, options=TRUNK)
        with pytest.raises(ValueError, match="sam2_checkpoint and a trunk exclude each other"):
            check_cells([trunk, make_cell(trunk="out/trunks/t/trunk.pt")])


class TestCheckKeys:
    CONFIG = {"epochs": 1, "train": {"handlers": [{"seed": 1}], "trainer": {}}}

    @pytest.mark.parametrize("key", ["epochs", "train#handlers#0#seed", "train#trainer#new", "train#handlers#0#new"])
    def test_known(self, key: str) -> None:
        check_keys([key], self.CONFIG)

    @pytest.mark.parametrize("key", ["epoch", "train#handlers#1#seed", "train#trainer#new#newer", "epochs#new#newer"])
    def test_unknown(self, key: str) -> None:
        with pytest.raises(ValueError, match="the bundle has no key"):
            check_keys([key], self.CONFIG)


def test_earlier_runs_with_other_settings_are_refused(make_cell: Callable[..., ComparisonCell], tmp_path: Path) -> None:
    cell = make_cell()
    check_earlier_runs([cell], tmp_path)
    cell.write(cell.folder(tmp_path))
    check_earlier_runs([cell], tmp_path)
    with pytest.raises(ValueError, match=r"with other settings: epochs was 2, is 4\. Take another --output_dir"):
        check_earlier_runs([make_cell(options={"epochs": 4})], tmp_path)


def test_a_full_disk_is_seen_before(
    make_cell: Callable[..., ComparisonCell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: SimpleNamespace(free=10e9))
    cells = [make_cell(seed=seed) for seed in range(3)]
    # the weights of three, and weights with an optimizer of the one that runs
    check_disk(cells, {("hearts", "lw"): 400_000_000}, tmp_path, jobs=1)
    with pytest.raises(ValueError, match=r"3 trainings need 12\.0 GB .* there are 10\.0 GB"):
        check_disk(cells, {("hearts", "lw"): 500_000_000}, tmp_path, jobs=1)
    ComparisonCell.write_result({}, cells[0].folder(tmp_path))  # what is finished is there already
    check_disk(cells, {("hearts", "lw"): 500_000_000}, tmp_path, jobs=1)


def test_the_reason_is_the_first_error() -> None:
    error = RuntimeError("Failed to evaluate")
    error.__cause__ = ValueError("the   reason\nitself")
    assert reason_of(error) == "the reason itself"
    assert reason_of(KeyError()) == "KeyError"
