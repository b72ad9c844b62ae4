# SPDX-License-Identifier: Apache-2.0
"""Bands of a picture get the values that the transforms give of the whole picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai import transforms as mt
from PIL import Image

from monai_sam2adapter.data import ImageFileReader
from monai_sam2adapter.transforms import NormalizeChannelsd, RequireFinited
from monai_sam2adapter.transforms.band_transform import BandTransform

PIXELS = np.random.default_rng(0).integers(3, 200, (50, 40, 3), dtype=np.uint8)
CONSTANT = np.full((50, 40, 3), 7, np.uint8)
GIVEN = {"mean": 100.0, "std": 30.0}
NORMALIZATIONS: dict[str, Any] = {
    "fixed": mt.NormalizeIntensityd("image", np.array([1.0, 2, 3]), np.array([4.0, 5, 6]), channel_wise=True),
    "own": mt.NormalizeIntensityd("image", channel_wise=True),
    "by_modality": NormalizeChannelsd("image", [{}, {"lower": 20, "upper": 150}, {"lower": 5, "upper": 90, **GIVEN}]),
    "given": NormalizeChannelsd("image", [GIVEN] * 3),
}


def chain(*steps: Any, channels: int = 3) -> mt.Compose:
    reader = ImageFileReader(channels)
    load = [mt.LoadImaged("image", reader), mt.EnsureChannelFirstd("image"), RequireFinited("image")]
    return mt.Compose([*load, *steps])


def bands_of(pixels: np.ndarray) -> list[np.ndarray]:
    return [pixels[start : start + 16] for start in range(0, len(pixels), 16)]


@pytest.mark.parametrize("name", NORMALIZATIONS)
@pytest.mark.parametrize("pixels", [PIXELS, CONSTANT], ids=["picture", "constant"])
def test_bands_are_those_of_the_whole(name: str, pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png")
    preprocessing = chain(NORMALIZATIONS[name])
    expected: Any = preprocessing({"image": str(tmp_path / "a.png")})
    transform = BandTransform(preprocessing)
    transform.fit(lambda: bands_of(pixels))
    found = torch.cat([transform(band) for band in bands_of(pixels)], dim=-1)[0]
    torch.testing.assert_close(found, expected["image"].as_tensor(), rtol=1e-5, atol=1e-5)
    assert transform.reader.channels == 3


def test_gray_by_its_own_figures(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[..., 0]).save(tmp_path / "a.png")
    preprocessing = chain(mt.NormalizeIntensityd("image"), channels=1)
    expected: Any = preprocessing({"image": str(tmp_path / "a.png")})
    transform = BandTransform(preprocessing)
    transform.fit(lambda: bands_of(PIXELS[..., 0]))
    found = torch.cat([transform(band) for band in bands_of(PIXELS[..., 0])], dim=-1)[0]
    torch.testing.assert_close(found, expected["image"].as_tensor(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([mt.ScaleIntensityd("image")], "ScaleIntensityd may look at all of it"),
        ([mt.NormalizeIntensityd("image", nonzero=True)], "NormalizeIntensityd with nonzero may look"),
    ],
)
def test_what_may_look_at_the_whole_picture_is_refused(steps: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BandTransform(chain(*steps))


def test_another_reader_and_one_mean_of_several_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="no ImageFileReader loads it"):
        BandTransform(mt.Compose([mt.LoadImaged("image"), RequireFinited("image")]))
    transform = BandTransform(chain(mt.NormalizeIntensityd("image")))
    with pytest.raises(ValueError, match="one mean of several channels"):
        transform.fit(lambda: bands_of(PIXELS))
