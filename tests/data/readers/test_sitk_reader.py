# SPDX-License-Identifier: Apache-2.0
"""SimpleITK's volumes come out as MONAI's own reader gives the same volume in NIfTI."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from monai.transforms import LoadImage

from monai_sam2adapter.data import SimpleITKReader


@pytest.fixture
def scan() -> sitk.Image:
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(-900, 900, (4, 5, 6)).astype(np.int16))
    image.SetSpacing((1.2, 0.7, 8.0))
    image.SetOrigin((-31.0, 12.5, 100.0))
    angle = 0.4
    rotation = [np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle), 0, 0, 0, 1]
    image.SetDirection([float(value) for value in rotation])
    return image


@pytest.mark.parametrize("extension", [".nrrd", ".mha", ".mhd"])
def test_a_volume_is_the_same_in_every_format(extension: str, scan: sitk.Image, tmp_path: Path) -> None:
    nifti, other = tmp_path / "scan.nii.gz", tmp_path / f"scan{extension}"
    sitk.WriteImage(scan, str(nifti))
    sitk.WriteImage(scan, str(other))
    load = LoadImage(reader=["monai_sam2adapter.data.SimpleITKReader", "NibabelReader"], ensure_channel_first=True)
    expected, got = load(nifti), load(other)
    assert got.shape == expected.shape == (1, 6, 5, 4)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_allclose(got.affine, expected.affine, atol=1e-5)
    assert got.meta["space"] == expected.meta["space"]


def test_several_values_a_voxel_become_channels(tmp_path: Path) -> None:
    colors = np.random.default_rng(0).random((3, 4, 5, 2)).astype(np.float32)  # (Z, Y, X, C)
    sitk.WriteImage(sitk.GetImageFromArray(colors, isVector=True), str(tmp_path / "scan.mha"))
    got = LoadImage(reader=SimpleITKReader(), ensure_channel_first=True)(tmp_path / "scan.mha")
    np.testing.assert_array_equal(got, colors.transpose(3, 2, 1, 0))


def test_knows_its_formats_and_reads_one_file_at_a_time() -> None:
    reader = SimpleITKReader()
    assert reader.verify_suffix("a.nrrd")
    assert not reader.verify_suffix("a.nii.gz")
    with pytest.raises(ValueError, match="one file at a time, got 2"):
        reader.read(["a.nrrd", "b.nrrd"])
