# SPDX-License-Identifier: Apache-2.0
"""Volumes and labels are turned alike, and back."""

from __future__ import annotations

import itertools
import logging
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd

from monai_sam2adapter.transforms import OrientSlicesd

ARRAY = torch.arange(2 * 3 * 4.0).reshape(1, 2, 3, 4)
AFFINE = np.diag([1.4, 1.3, 9.0, 1])
ORDERS = list(itertools.permutations(range(3)))


def volume(order: tuple[int, ...] = (0, 1, 2), affine: np.ndarray = AFFINE, **meta: Any) -> MetaTensor:
    return MetaTensor(ARRAY.permute(0, *(1 + axis for axis in order)), affine=affine[:, [*order, 3]], meta=meta)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("slices_by", ["orientation", "both", "spacing"])
def test_there_and_back(order: tuple[int, ...], slices_by: str) -> None:
    transform = OrientSlicesd(["image", "label"], "LPS", slices_by, allow_missing_keys=True)
    expected = OrientSlicesd("image", "LPS")({"image": volume()})["image"]
    stored = volume(order)
    # a label whose header says nothing follows its image
    found = transform({"image": stored, "label": volume(order, qform_code=0, sform_code=0), "case": "a"})
    assert found["case"] == "a"
    for key in ("image", "label"):
        assert torch.equal(found[key].as_tensor(), expected.as_tensor())
        np.testing.assert_allclose(found[key].affine, expected.affine)
        assert found[key].meta["slice_direction"] == "S"
    pred = MetaTensor(found["image"].as_tensor() + 1, meta=found["image"].meta)
    inverted = Invertd(["pred", "image"], Compose([transform]), orig_keys="image")({**found, "pred": pred})
    for key, offset in (("image", 0), ("pred", 1)):
        assert torch.equal(inverted[key].as_tensor(), stored.as_tensor() + offset)
        np.testing.assert_allclose(inverted[key].affine, stored.affine)
        assert inverted[key].meta["slice_direction"] == "S"


def test_without_an_orientation_nothing_is_done() -> None:
    stored = volume((2, 0, 1))
    transform = OrientSlicesd("image", None)
    assert transform({"image": stored})["image"] is stored
    assert transform.inverse({"image": stored})["image"] is stored


def test_a_file_that_does_not_tell_its_slices_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    transform = OrientSlicesd("image", "LPS")
    for name in ("a.nii", "a.nii", "b.nii"):
        transform({"image": volume(affine=np.eye(4), filename_or_obj=name)})
    assert [record.message.split()[0] for record in caplog.records] == ["a.nii", "b.nii"]
    assert all("does not say along which axis its slices lie" in record.message for record in caplog.records)


def test_another_axis_than_the_slices_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        transform = OrientSlicesd("image", "LPS", slice_axis=-3)
        assert "slice_axis is -3: volumes are turned to LPS with their slices last" in caplog.text
        assert transform({"image": volume()})["image"].meta["slice_direction"] == "L"
        caplog.clear()
        OrientSlicesd("image", "LPS", slice_axis=2)
        OrientSlicesd("image", None, slice_axis=-3)
    assert not caplog.records


@pytest.mark.parametrize(("axcodes", "slices_by"), [("LPX", "both"), ("LPS", "thickness")])
def test_wrong_options(axcodes: str, slices_by: str) -> None:
    with pytest.raises(ValueError, match=r"expected three letters|thickness"):
        OrientSlicesd("image", axcodes, slices_by)
