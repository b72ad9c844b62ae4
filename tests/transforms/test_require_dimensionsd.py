# SPDX-License-Identifier: Apache-2.0
"""Images with a wrong number of channels or axes are named."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import LoadImaged
from PIL import Image

from monai_sam2adapter.data import ImageFileReader
from monai_sam2adapter.transforms import RequireDimensionsd


def test_passes_images_on() -> None:
    image = torch.zeros(1, 4, 5, 6)
    assert RequireDimensionsd("image", channels=1, spatial_dims=3)({"image": image})["image"] is image


def test_a_4d_file_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "4d.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6, 2), dtype=np.float32), np.eye(4)), path)
    loaded = LoadImaged("image", ensure_channel_first=True)({"image": path})
    with pytest.raises(ValueError, match=r"4d\.nii\.gz has 2 channels and 3 spatial axes, expected 1 and 3 .*save the"):
        RequireDimensionsd("image", channels=1, spatial_dims=3)(loaded)


def test_a_stack_in_place_of_a_picture_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "stack.tif")
    page = Image.new("L", (4, 5))
    page.save(path, save_all=True, append_images=[page])
    loaded = LoadImaged("image", reader=ImageFileReader(3), ensure_channel_first=True)({"image": path})
    with pytest.raises(ValueError, match=r"stack\.tif has 3 channels and 3 spatial axes, expected 3 and 2"):
        RequireDimensionsd("image", channels=3, spatial_dims=2)(loaded)


def test_a_picture_in_place_of_a_volume_is_named_by_its_key() -> None:
    with pytest.raises(ValueError, match="the item 'image' has 1 channels and 2 spatial axes, expected 1 and 3"):
        RequireDimensionsd("image", channels=1, spatial_dims=3)({"image": np.zeros((1, 4, 5))})


@pytest.mark.parametrize(("channels", "spatial_dims"), [(0, 3), (1, 4), (1, 1)])
def test_impossible_numbers_are_errors(channels: int, spatial_dims: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        RequireDimensionsd("image", channels, spatial_dims)
