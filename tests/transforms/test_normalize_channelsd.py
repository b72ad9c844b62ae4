# SPDX-License-Identifier: Apache-2.0
"""Channels that are normalized in different ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, NormalizeIntensityd, ScaleIntensityRanged

from monai_sam2adapter.transforms import NormalizeChannelsd

CT = {"lower": -50.0, "upper": 120.0, "mean": 40.0, "std": 25.0}


@pytest.fixture
def image() -> torch.Tensor:
    return 100 * torch.randn(2, 5, 6, 4)


def test_each_channel_is_as_monai_normalizes_it_alone(image: torch.Tensor) -> None:
    before = image.clone()
    found = NormalizeChannelsd("image", [CT, {}])({"image": image})["image"]
    ct = Compose(
        [
            ScaleIntensityRanged("image", -50, 120, -50, 120, clip=True),
            NormalizeIntensityd("image", subtrahend=40, divisor=25),
        ]
    )
    torch.testing.assert_close(found[:1], ct({"image": image[:1]})["image"])
    torch.testing.assert_close(found[1:], NormalizeIntensityd("image")({"image": image[1:]})["image"])
    assert torch.equal(image, before)


@pytest.mark.parametrize("convert", [np.int16, MetaTensor], ids=["numpy", "MetaTensor"])
def test_any_array(convert: Any, image: torch.Tensor) -> None:
    given = image.numpy().astype(np.int16) if convert is np.int16 else MetaTensor(image, meta={"case": "a"})
    found = NormalizeChannelsd("image", [CT, CT])({"image": given, "other": 1})
    assert found["image"].dtype == torch.float32
    assert found["image"].min() >= (-50 - 40) / 25
    assert found["other"] == 1


@pytest.mark.parametrize(
    ("normalization", "message"),
    [
        ([], "normalization is empty"),
        ([{"lower": 1}], "expected the numbers lower and upper, or neither"),
        ([{"average": 1, "std": 2}], "expected the numbers"),
        ([{}], "'image' has 2 channels, but 1 have a normalization"),
    ],
)
def test_ill_arg(normalization: list[dict[str, float]], message: str, image: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=message):
        NormalizeChannelsd("image", normalization)({"image": image})


@pytest.mark.parametrize(
    ("change", "told"),
    [(lambda a: a, False), (lambda a: a / 1000, True), (lambda a: a + 1024, True), (lambda a: a - 5000, True)],
    ids=["as trained on", "0 to 1", "offset", "elsewhere"],
)
def test_other_units_are_told_with_the_file(
    change: Any, told: bool, image: torch.Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    scan = MetaTensor(change(image.abs()), meta={"filename_or_obj": "scan.nii"})
    NormalizeChannelsd("image", [CT, {}])({"image": scan})
    assert ("scan.nii has values from" in caplog.text) == told
