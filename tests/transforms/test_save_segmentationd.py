# SPDX-License-Identifier: Apache-2.0
"""Segmentations on disk: where they lie, in which form, and never by halves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage
from PIL import Image

from monai_sam2adapter.data import LabelScheme, VolumeReader, find_images
from monai_sam2adapter.transforms import SaveSegmentationd

SCHEME = LabelScheme(("a", "b"), ((255, 0, 9), (1, 2, 3)), ({}, {}))
AFFINE = np.array([[0, -2.0, 0, 10], [1.5, 0, 0, -20], [0, 0, 7, 3], [0, 0, 0, 1]])


def labels(*size: int) -> MetaTensor:
    values = torch.randint(0, 3, (1, *size), dtype=torch.uint8)
    return MetaTensor(values, affine=torch.tensor(AFFINE), meta={"filename_or_obj": "scan.1.nii.gz"})


class TestVolumes:
    @pytest.mark.parametrize("size", [(4, 5, 6), (4, 5, 1), (1, 5, 6)])
    def test_lies_where_the_image_does(self, size: tuple[int, ...], tmp_path: Path) -> None:
        pred = labels(*size)
        SaveSegmentationd(tmp_path / "new", SCHEME)({"pred": pred, "case": "x"})
        found = nib.load(tmp_path / "new" / "x_seg.nii.gz")
        assert found.shape == size
        assert found.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(found.dataobj, pred[0])
        np.testing.assert_allclose(found.affine, AFFINE, atol=1e-5)
        # ITK takes the other of the two places that NIfTI has
        image = sitk.ReadImage(str(tmp_path / "new" / "x_seg.nii.gz"))
        np.testing.assert_allclose(image.GetOrigin(), (-10, 20, 3), atol=1e-4)
        np.testing.assert_allclose(image.GetSpacing(), (1.5, 2, 7), atol=1e-4)

    def test_maps_have_their_channels_behind(self, tmp_path: Path) -> None:
        chance = MetaTensor(torch.rand(3, 4, 5, 6), affine=torch.tensor(AFFINE))
        items = {"pred": labels(4, 5, 6), "case": "x", "probabilities": chance, "uncertainty": chance[:1]}
        SaveSegmentationd(tmp_path, SCHEME, save_probabilities=True, save_uncertainty=True)(items)
        found = nib.load(tmp_path / "x_probabilities.nii.gz")
        assert found.get_data_dtype() == np.float32
        np.testing.assert_array_equal(found.get_fdata(dtype=np.float32), chance.numpy().transpose(1, 2, 3, 0))
        np.testing.assert_allclose(found.affine, AFFINE, atol=1e-5)
        assert nib.load(tmp_path / "x_uncertainty.nii.gz").shape == (4, 5, 6)


class TestPictures:
    def test_pixels_are_class_numbers_shown_in_colors(self, tmp_path: Path) -> None:
        pred = labels(7, 5)  # 7 wide, 5 high
        SaveSegmentationd(tmp_path, SCHEME, "png")({"pred": pred, "case": "x"})
        with Image.open(tmp_path / "x_seg.png") as picture:
            assert picture.size == (7, 5)
            np.testing.assert_array_equal(np.asarray(picture), pred[0].numpy().T)
            colors = np.asarray(picture.convert("RGB"))
        assert (colors[pred[0].numpy().T == 1] == (255, 0, 9)).all()
        assert (colors[pred[0].numpy().T == 0] == 0).all()

    def test_maps_have_a_page_a_channel(self, tmp_path: Path) -> None:
        chance = MetaTensor(torch.rand(3, 7, 5))
        items = {"pred": labels(7, 5), "case": "x", "probabilities": chance}
        SaveSegmentationd(tmp_path, SCHEME, "png", save_probabilities=True)(items)
        with Image.open(tmp_path / "x_probabilities.tif") as picture:
            assert picture.n_frames == 3
            picture.seek(2)
            np.testing.assert_array_equal(np.asarray(picture), chance[2].numpy().T)


class TestDicom:
    @pytest.mark.parametrize("expanduser", [False, True], ids=["as-found", "by-its-name"])
    def test_lies_on_the_series(self, expanduser: bool, write_dicom: Callable[..., list[Path]], tmp_path: Path) -> None:
        pytest.importorskip("highdicom")
        write_dicom(tmp_path / "ct", [[0, 0, 0], [0, 0, 2]])
        (case,) = find_images(tmp_path / "ct")
        volume = LoadImage(reader=VolumeReader(), ensure_channel_first=True, expanduser=expanduser)(case["image"])
        SaveSegmentationd(tmp_path, SCHEME, "dicom_seg")({"pred": (volume > -850).to(torch.uint8), "case": "x"})
        assert pydicom.dcmread(tmp_path / "x_seg.dcm").NumberOfFrames == 1, "in one slice all values are below"

    def test_missing_highdicom_is_told_before_the_work(self, tmp_path: Path) -> None:
        with mock.patch.dict("sys.modules", {"highdicom": None}), pytest.raises(ImportError, match=r"\[dicom\]"):
            SaveSegmentationd(tmp_path, SCHEME, "dicom_seg")


class TestWhole:
    def test_a_failing_writer_leaves_the_old_file_and_nothing_else(self, tmp_path: Path) -> None:
        save, old = SaveSegmentationd(tmp_path, SCHEME), labels(4, 5, 6)
        save({"pred": old, "case": "x"})

        def write_half(image: Any, path: Path) -> None:
            Path(path).write_bytes(b"half")
            raise OSError("disk full")

        with mock.patch("nibabel.save", write_half), pytest.raises(OSError, match="disk full"):
            save({"pred": old + 1, "case": "x"})
        assert [path.name for path in tmp_path.glob("[!.]*")] == ["x_seg.nii.gz"]
        np.testing.assert_array_equal(nib.load(tmp_path / "x_seg.nii.gz").dataobj, old[0])

    def test_without_its_maps_there_is_no_segmentation(self, tmp_path: Path) -> None:
        save = SaveSegmentationd(tmp_path, SCHEME, save_probabilities=True)
        items = {"pred": labels(4, 5, 6), "case": "x", "probabilities": labels(4, 5, 6)}
        with mock.patch("nibabel.save", side_effect=OSError), pytest.raises(OSError):  # noqa: PT011
            save(items)
        assert not os.listdir(tmp_path)

    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
    def test_kill_while_writing_leaves_no_result(self, tmp_path: Path) -> None:
        code = f"""
import os, signal, nibabel, torch
from monai.data import MetaTensor
from monai_sam2adapter.data import LabelScheme
from monai_sam2adapter.transforms import SaveSegmentationd
def write_half(image, path):
    open(path, "wb").write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
nibabel.save = write_half
SaveSegmentationd({str(tmp_path)!r}, LabelScheme(("a",), ((1, 2, 3),), ({{}},)))(
    {{"pred": MetaTensor(torch.zeros(1, 2, 2, 2)), "case": "x"}})
"""
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
        assert not [name for name in os.listdir(tmp_path) if not name.startswith(".")]


@pytest.mark.parametrize(
    ("output_format", "items", "message"),
    [
        ("nii.gz", {"pred": labels(4, 5), "case": "x"}, r"nii.gz is for 3D images, got .* \(1, 4, 5\)"),
        ("png", {"pred": labels(4, 5, 6), "case": "x"}, "png is for 2D images"),
        ("nii.gz", {"pred": labels(4, 5, 6)}, "there is no 'case' to name results by"),
        ("nii.gz", {"pred": torch.zeros(1, 4, 5, 6), "case": "x"}, "must be a MetaTensor to have a place"),
        ("nii.gz", {"pred": labels(4, 5, 6), "case": "x", "uncertainty": 1}, "there is no probabilities to write"),
    ],
    ids=["picture", "volume", "no-name", "no-place", "no-map"],
)
def test_what_does_not_fit_is_refused(output_format: str, items: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        SaveSegmentationd(tmp_path, SCHEME, output_format, save_probabilities=True)(items)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_format": "nifti"}, r"nii\.gz"),
        (
            {"save_probabilities": "false"},
            "save_probabilities must be True or False, got 'false'; write --save_prob",
        ),
    ],
)
def test_mistaken_options_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        SaveSegmentationd(tmp_path, SCHEME, **options)
