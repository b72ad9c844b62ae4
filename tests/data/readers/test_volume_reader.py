# SPDX-License-Identifier: Apache-2.0
"""One reader for all kinds of volumes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from monai.transforms import LoadImage
from nibabel.filebasedimages import ImageFileError

from monai_sam2adapter.data import VolumeReader


def test_every_kind_is_read_to_the_same(write_dicom: Callable[..., list[Path]], tmp_path: Path) -> None:
    write_dicom(tmp_path / "ct", [[1, 2, 3 + 2.5 * n] for n in range(3)])
    load = LoadImage(reader=VolumeReader(), ensure_channel_first=True)
    expected = load(tmp_path / "ct")
    scan = sitk.GetImageFromArray(expected[0].numpy().transpose(2, 1, 0))
    scan.SetSpacing((3, 2, 2.5))
    scan.SetOrigin((1, 2, 3))
    for extension in (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd"):
        sitk.WriteImage(scan, str(tmp_path / f"scan{extension}"))
        found = load(tmp_path / f"scan{extension}")
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_allclose(found.affine, expected.affine, atol=1e-6)
        assert VolumeReader().verify_suffix(tmp_path / f"scan{extension}")
    assert VolumeReader().verify_suffix(tmp_path / "ct")


@pytest.mark.parametrize("extension", ["nii.gz", "nrrd"])
@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((4, 5, 6, 2), "holds 2 volumes \\(4D\\) of 4 x 5 x 6 voxels; split it"),
        ((4, 5), "is a 2D image of 4 x 5 pixels; expected a volume"),
    ],
    ids=["4D", "2D"],
)
def test_what_is_no_volume_is_refused(size: tuple[int, ...], message: str, extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"scan.{extension}"
    if extension == "nii.gz":
        nib.save(nib.Nifti1Image(np.zeros(size, np.float32), np.eye(4)), path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros(size[::-1], np.float32), isVector=False), str(path))
    with pytest.raises(ValueError, match=rf"scan\.{extension} {message}"):
        LoadImage(reader=VolumeReader())(path)


def test_a_volume_without_voxels_is_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 0, 6), np.float32), np.eye(4)), tmp_path / "scan.nii")
    with pytest.raises(ValueError, match=r"scan\.nii holds no voxels"):
        LoadImage(reader=VolumeReader())(tmp_path / "scan.nii")


def test_one_volume_in_four_dimensions_is_read(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6, 1), np.float32), np.eye(4)), tmp_path / "scan.nii")
    assert LoadImage(reader=VolumeReader(), ensure_channel_first=True)(tmp_path / "scan.nii").shape == (1, 4, 5, 6)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("scan.nii.gz", ImageFileError, "scan.nii.gz is not a gzip file"),
        ("scan.nrrd", RuntimeError, "nrrd"),
        ("scan", ValueError, "is not a DICOM file"),
    ],
)
def test_the_user_sees_what_is_wrong_with_a_file(
    name: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(error, match=message):
        LoadImage(reader=VolumeReader())(tmp_path / name)
