# SPDX-License-Identifier: Apache-2.0
"""More classes than 8 bits hold: 300, in every format and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage

from monai_sam2adapter.data import ImageFileReader, LabelScheme, VolumeReader, check_volumes, find_images
from monai_sam2adapter.transforms import OneHotLabelsd, RequireLabelsd, SaveSegmentationd, SegmentLogitsd

NUMBER = 300
SCHEME = LabelScheme(tuple(f"class {k}" for k in range(1, NUMBER)), ((9, 9, 9),) * (NUMBER - 1), ({},) * (NUMBER - 1))


def segmentation(*size: int) -> tuple[MetaTensor, np.ndarray]:
    """What a network of 300 classes makes of an image, and the classes."""
    expected = np.random.default_rng(0).integers(0, NUMBER, size)
    expected.flat[:2] = 299, 256
    logits = 5.0 * torch.nn.functional.one_hot(torch.from_numpy(expected), NUMBER).movedim(-1, 0).float()
    return SegmentLogitsd("pred")({"pred": MetaTensor(logits)})["pred"], expected


def test_volumes(tmp_path: Path) -> None:
    pred, expected = segmentation(6, 5, 4)
    np.testing.assert_array_equal(pred[0], expected)
    SaveSegmentationd(tmp_path, SCHEME)({"pred": pred, "case": "x"})
    found = nib.load(tmp_path / "x_seg.nii.gz")
    assert found.get_data_dtype() == np.uint16
    np.testing.assert_array_equal(found.dataobj, expected)
    np.testing.assert_array_equal(VolumeReader().get_data((str(tmp_path / "x_seg.nii.gz"),))[0], expected)


def test_pictures(tmp_path: Path) -> None:
    pred, expected = segmentation(7, 5)
    SaveSegmentationd(tmp_path, SCHEME, "png")({"pred": pred, "case": "x"})
    found, _ = ImageFileReader(labels=True).get_data((str(tmp_path / "x_seg.png"),))
    assert found.dtype.itemsize == 2
    np.testing.assert_array_equal(found, expected)


def test_dicom_segmentations(write_dicom: Callable[..., list[Path]], tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    write_dicom(tmp_path / "ct", [[0, 0, 0], [0, 0, 2]])
    (case,) = find_images(tmp_path / "ct")
    volume = LoadImage(reader=VolumeReader(), ensure_channel_first=True)(case["image"])
    labels = torch.zeros(volume.shape, dtype=torch.int16)
    labels[0, 1, 2, 0], labels[0, 0, 0, 0] = 299, 3
    pred = MetaTensor(labels, meta=volume.meta)
    SaveSegmentationd(tmp_path, SCHEME, "dicom_seg")({"pred": pred, "case": "x"})
    seg = pydicom.dcmread(tmp_path / "x_seg.dcm")
    assert len(seg.SegmentSequence) == NUMBER - 1
    numbers = [g.SegmentIdentificationSequence[0].ReferencedSegmentNumber for g in seg.PerFrameFunctionalGroupsSequence]
    assert sorted(set(numbers)) == [3, 299]
    frames = dict(zip(numbers, seg.pixel_array, strict=True))
    assert np.argwhere(frames[299]).tolist() == [[2, 1]]  # rows and columns


def test_labels_are_checked_and_made_channels(tmp_path: Path) -> None:
    for place, values in (("images", np.arange(600.0)), ("labels", np.arange(600) % NUMBER)):
        (tmp_path / place).mkdir()
        for name in "ab":
            array = (values + (name == "b") * (place == "images")).reshape(10, 10, 6).astype(np.int16)
            nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / place / f"{name}.nii.gz")
    report = check_volumes(tmp_path, progress=False)
    assert report.problems == []
    assert report.voxels.tolist() == [4] * NUMBER
    labels = torch.arange(NUMBER + 1.0).reshape(1, -1, 1)
    labels[0, -1] = 1000
    item = RequireLabelsd("label", NUMBER, ignore_label=1000)({"label": labels})
    one_hot = OneHotLabelsd("label", NUMBER, ignore_index=1000)(item)["label"]
    np.testing.assert_array_equal(one_hot[:, :NUMBER, 0], np.eye(NUMBER))
    assert one_hot[:, NUMBER].sum() == 0
