# SPDX-License-Identifier: Apache-2.0
"""One reader for all kinds of volumes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
