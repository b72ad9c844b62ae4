# SPDX-License-Identifier: Apache-2.0
"""Volumes of every format come out as MONAI's own reader gives the same volume in NIfTI."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from monai.data import ImageReader
from monai.transforms import LoadImage

from monai_sam2adapter.data import SimpleITKReader, VolumeReader

BY_SIMPLE_ITK = (".nrrd", ".mha", ".mhd")


def load(path: Path, reader: ImageReader | None = None) -> Any:
    return LoadImage(reader=reader or VolumeReader(), ensure_channel_first=True)(path)


@pytest.mark.parametrize(
    ("reader", "extensions"),
    [(VolumeReader(), (".nii.gz", ".nii", *BY_SIMPLE_ITK)), (SimpleITKReader(), BY_SIMPLE_ITK)],
    ids=["any", "SimpleITK"],
)
def test_a_volume_is_the_same_in_every_format(reader: ImageReader, extensions: list[str], tmp_path: Path) -> None:
    scan = sitk.GetImageFromArray(np.random.default_rng(0).integers(-900, 900, (4, 5, 6)).astype(np.int16))
    scan.SetSpacing((1.2, 0.7, 8.0))
    scan.SetOrigin((-31.0, 12.5, 100.0))
    cosine, sine = float(np.cos(0.4)), float(np.sin(0.4))
    scan.SetDirection([cosine, -sine, 0, sine, cosine, 0, 0, 0, 1])
    sitk.WriteImage(scan, str(tmp_path / "nifti.nii.gz"))
    expected = LoadImage(reader="NibabelReader", ensure_channel_first=True)(tmp_path / "nifti.nii.gz")
    for extension in extensions:
        path = tmp_path / f"scan{extension}"
        sitk.WriteImage(scan, str(path))
        assert reader.verify_suffix(path)
        got = load(path, reader)
        assert got.shape == expected.shape == (1, 6, 5, 4)
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_allclose(got.affine, expected.affine, atol=1e-5)
        assert got.meta["space"] == expected.meta["space"]


def test_dicom_is_read_as_the_same_volume_in_nifti(write_dicom: Callable[..., list[Path]], tmp_path: Path) -> None:
    write_dicom(tmp_path / "ct", [[1, 2, 3 + 2.5 * n] for n in range(3)])
    found = load(tmp_path / "ct")
    scan = sitk.GetImageFromArray(found[0].numpy().transpose(2, 1, 0))
    scan.SetSpacing((3, 2, 2.5))
    scan.SetOrigin((1, 2, 3))
    sitk.WriteImage(scan, str(tmp_path / "scan.nii"))
    np.testing.assert_array_equal(found, load(tmp_path / "scan.nii"))
    np.testing.assert_allclose(found.affine, load(tmp_path / "scan.nii").affine, atol=1e-6)
    assert VolumeReader().verify_suffix(tmp_path / "ct")


def test_several_values_a_voxel_become_channels(tmp_path: Path) -> None:
    colors = np.random.default_rng(0).random((3, 4, 5, 2)).astype(np.float32)  # (Z, Y, X, C)
    sitk.WriteImage(sitk.GetImageFromArray(colors, isVector=True), str(tmp_path / "scan.mha"))
    np.testing.assert_array_equal(load(tmp_path / "scan.mha", SimpleITKReader()), colors.transpose(3, 2, 1, 0))


def test_simple_itk_knows_its_formats_and_reads_one_file_at_a_time() -> None:
    assert not SimpleITKReader().verify_suffix("a.nii.gz")
    with pytest.raises(ValueError, match="one file at a time, got 2"):
        SimpleITKReader().read(["a.nrrd", "b.nrrd"])


@pytest.mark.parametrize(
    ("extension", "size", "message"),
    [
        ("nii.gz", (4, 5, 6, 2), r"holds 2 volumes \(4D\) of 4 x 5 x 6 voxels; split it"),
        ("nrrd", (4, 5, 6, 2), r"holds 2 volumes \(4D\) of 4 x 5 x 6 voxels; split it"),
        ("nii.gz", (4, 5), "is a 2D image of 4 x 5 pixels; expected a volume"),
        ("nrrd", (4, 5), "is a 2D image of 4 x 5 pixels; expected a volume"),
        ("nii.gz", (4, 0, 6), "holds no voxels"),
    ],
)
def test_what_is_no_volume_is_refused(extension: str, size: tuple[int, ...], message: str, tmp_path: Path) -> None:
    path = tmp_path / f"scan.{extension}"
    if extension == "nii.gz":
        nib.save(nib.Nifti1Image(np.zeros(size, np.float32), np.eye(4)), path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros(size[::-1], np.float32), isVector=False), str(path))
    with pytest.raises(ValueError, match=rf"scan\.{extension} {message}"):
        load(path)


def test_one_volume_in_four_dimensions_is_read(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6, 1), np.float32), np.eye(4)), tmp_path / "scan.nii")
    assert load(tmp_path / "scan.nii").shape == (1, 4, 5, 6)


@pytest.mark.parametrize("extension", [".nii.gz", ".nii", *BY_SIMPLE_ITK, ""])
def test_the_user_sees_what_is_wrong_with_a_file(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"scan{extension}"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=rf"scan{extension} (cannot be read \(19 bytes\): |is not a DICOM file)"):
        load(path)
    with pytest.raises(FileNotFoundError, match="no file"):
        load(path.with_name(f"absent{extension}"))


def write(path: Path, array: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return path


def test_damage_of_a_packed_file_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 1000, (16, 16, 8)).astype(np.int16)
    path = write(tmp_path / "scan.nii.gz", voxels)
    whole, reader = path.read_bytes(), VolumeReader()
    noticed = []
    for place in range(20, len(whole), len(whole) // 300):  # behind the header of gzip, with a name and a time
        for content in (whole[:place], whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :]):
            path.write_bytes(content)
            try:
                np.testing.assert_array_equal(reader.get_data((path,))[0], voxels)
                noticed.append(0)  # a bit that is not used
            except ValueError as error:
                noticed.append(str(error).startswith(f"{path} cannot be read"))
    assert len(noticed) > 600
    assert sum(noticed) > len(noticed) - 3


COMPLEX = np.zeros((4, 5, 6), np.complex64)
RGB = np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])


@pytest.mark.parametrize(("voxels", "what"), [(COMPLEX, "complex numbers"), (RGB, "voxels of .*'R'.*")])
@pytest.mark.parametrize("extension", ["nii", "nii.gz"])
def test_voxels_that_are_no_real_numbers_are_refused(
    voxels: np.ndarray, what: str, extension: str, tmp_path: Path
) -> None:
    path = write(tmp_path / f"scan.{extension}", voxels)
    with pytest.raises(ValueError, match=rf"scan\.{extension} holds {what}, expected one real number a voxel"):
        load(path)


def test_complex_voxels_of_other_formats_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.mha"
    sitk.WriteImage(sitk.GetImageFromArray(COMPLEX), str(path))
    with pytest.raises(ValueError, match=r"scan\.mha (holds complex numbers|cannot be read|holds 2 volumes)"):
        load(path)


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (2.5, -1000), (0, 7), (float("nan"), 0), (-1, 3)])
def test_nifti_is_scaled_as_by_simpleitk(kind: str, slope: float, intercept: float, tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 100, (4, 5, 6)).astype(kind)
    path = write(tmp_path / "scan.nii", voxels)
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([slope, intercept], "<f4").tobytes()  # scl_slope and scl_inter
    path.write_bytes(content)
    scaled = voxels.astype(float) * slope + intercept if slope and slope == slope else voxels
    np.testing.assert_allclose(load(path)[0], scaled, rtol=1e-6)
    if slope and slope == slope:  # which SimpleITK takes as they are
        np.testing.assert_allclose(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T, scaled, rtol=1e-6)


BASE = np.random.default_rng(0).integers(0, 250, (4, 5, 6))


@pytest.mark.parametrize(
    ("voxels", "message"),
    [
        (BASE * 1e300, "which single precision cannot hold"),
        (BASE * -1e39, "which single precision cannot hold"),
        (BASE.astype(np.uint64) + 2**40, "which are all but equal in single precision"),
        (BASE.astype(np.int64) - 2**40, "which are all but equal in single precision"),
        (BASE.astype(np.uint32) + 2**31, "which are all but equal in single precision"),
        (BASE + 1e12, "which are all but equal in single precision"),
        (BASE.astype(np.int32) + 2**16, ""),
        (BASE.astype(np.uint64) * 2**40, ""),
        (BASE * 1e-30, ""),
        (np.full((4, 5, 6), 2**40, np.int64), ""),
    ],
)
@pytest.mark.parametrize("extension", ["nii.gz", "nrrd"])
def test_values_that_single_precision_loses_are_refused(
    voxels: np.ndarray, message: str, extension: str, tmp_path: Path
) -> None:
    path = tmp_path / f"scan.{extension}"
    if extension == "nrrd":
        sitk.WriteImage(sitk.GetImageFromArray(voxels.T), str(path))
    else:
        nib.save(nib.Nifti1Image(voxels, np.eye(4), dtype=voxels.dtype), path)
    if message:
        with pytest.raises(ValueError, match=rf"scan\.{extension} holds values from .*, {message}"):
            load(path)
    else:
        assert np.unique(load(path)).size == np.unique(voxels).size
