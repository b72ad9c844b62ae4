# SPDX-License-Identifier: Apache-2.0
"""Classes that overlap on disk: each form keeps all of them, and which is which."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage
from PIL import Image

from monai_sam2adapter.data import LabelScheme, ResultFiles, VolumeReader, find_images
from monai_sam2adapter.transforms import SaveSegmentationd

COLORS = ((255, 0, 9), (1, 2, 3), (7, 7, 7))
SCHEME = LabelScheme(("whole tumor", "core", "x/y"), COLORS, ({}, {}, {}), overlapping=True)
REGIONS = dataclasses.replace(SCHEME, region_order=(1, 2, 4))
AFFINE = torch.tensor([[0, -2.0, 0, 10], [1.5, 0, 0, -20], [0, 0, 7, 3], [0, 0, 0, 1]], dtype=torch.float64)


def masks(*size: int) -> MetaTensor:
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 2, (3, *size), dtype=torch.uint8, generator=generator)
    assert (values.sum(dim=0) > 1).any()
    return MetaTensor(values, affine=AFFINE)


def written(pred: MetaTensor, order: tuple[int, ...]) -> np.ndarray:
    """As nnU-Net writes regions, one after the other."""
    labels = np.zeros(pred.shape[1:], dtype=int)
    for mask, number in zip(pred.numpy(), order, strict=True):
        labels[mask > 0] = number
    return labels


def test_volumes_are_4d_with_the_names_of_the_channels(tmp_path: Path) -> None:
    pred = masks(4, 5, 6)
    SaveSegmentationd(tmp_path, SCHEME)({"pred": pred, "case": "x"})
    found = nib.load(tmp_path / "x_seg.nii.gz")
    np.testing.assert_array_equal(np.moveaxis(np.asarray(found.dataobj), -1, 0), pred)
    np.testing.assert_allclose(found.affine, AFFINE, atol=1e-5)
    assert found.get_data_dtype() == np.uint8
    (comment,) = found.header.extensions
    assert json.loads(comment.get_content()) == {"channels": list(SCHEME.names)}


def test_pictures_are_a_file_for_each_class(tmp_path: Path) -> None:
    pred = masks(7, 5)  # 7 wide, 5 high
    SaveSegmentationd(tmp_path, SCHEME, "png")({"pred": pred, "case": "x"})
    names = ("x_whole_tumor_seg.png", "x_core_seg.png", "x_x_y_seg.png")
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == sorted(names)
    for name, mask in zip(names, pred.numpy(), strict=True):
        with Image.open(tmp_path / name) as picture:
            np.testing.assert_array_equal(np.asarray(picture), 255 * mask.T)


@pytest.mark.parametrize("size", [(4, 5, 6), (7, 5)], ids=["volume", "picture"])
def test_regions_are_written_back_to_one_label_map(size: tuple[int, ...], tmp_path: Path) -> None:
    pred = masks(*size)
    SaveSegmentationd(tmp_path, REGIONS, "nii.gz" if len(size) == 3 else "png")({"pred": pred, "case": "x"})
    if len(size) == 3:
        np.testing.assert_array_equal(nib.load(tmp_path / "x_seg.nii.gz").dataobj, written(pred, (1, 2, 4)))
        return
    with Image.open(tmp_path / "x_seg.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture).T, written(pred, (1, 2, 4)))
        colors = np.asarray(picture.convert("RGB")).swapaxes(0, 1)
    for number, color in zip((1, 2, 4), COLORS, strict=True):
        assert (colors[written(pred, (1, 2, 4)) == number] == color).all()


@pytest.mark.parametrize("scheme", [SCHEME, REGIONS], ids=["masks", "regions"])
def test_dicom_segments_overlap(scheme: LabelScheme, write_dicom: Callable[..., list[Path]], tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    write_dicom(tmp_path / "ct", [[0, 0, 2], [0, 0, 0]])
    (case,) = find_images(tmp_path / "ct")
    volume = LoadImage(reader=VolumeReader(), ensure_channel_first=True)(case["image"])
    pred = MetaTensor(masks(*volume.shape[1:]).as_tensor(), meta=volume.meta, affine=volume.affine)
    SaveSegmentationd(tmp_path, scheme, "dicom_seg")({"pred": pred, "case": "x"})
    seg = pydicom.dcmread(tmp_path / "x_seg.dcm")
    assert seg.SegmentsOverlap == "YES"
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == list(scheme.names)
    frames = {}
    for frame, groups in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        frames[number, float(position[2])] = frame
    slices = [round(float((volume.affine @ torch.tensor([0.0, 0, k, 1], dtype=torch.float64))[2]), 3) for k in (0, 1)]
    for k, mask in enumerate(pred.numpy(), start=1):
        for index, place in enumerate(slices):
            np.testing.assert_array_equal(frames[k, place], mask[..., index].T)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 2 masks, expected one for each of whole tumor, core, x/y"):
        SaveSegmentationd(tmp_path, SCHEME)({"pred": masks(4, 5, 6)[:2], "case": "x"})
    with pytest.raises(ValueError, match="have files of one name"):
        ResultFiles(tmp_path, "png", mask_names=("a b", "a_b"))
    with pytest.raises(ValueError, match="expected a number for each of the 3 classes"):
        dataclasses.replace(SCHEME, region_order=(1, 2))
    files = ResultFiles(tmp_path, "png", mask_names=("b_c", "c"))
    with pytest.raises(ValueError, match=r"two results would be called .*a_b_c_seg\.png"):
        files.require_places([{"case": "a"}, {"case": "a_b"}], [])


def test_what_is_done_needs_the_masks_of_all_classes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((5, 7), np.uint8)).save(tmp_path / "in" / "x.png")
    SaveSegmentationd(tmp_path / "out", SCHEME, "png")({"pred": masks(7, 5), "case": "x"})
    options = {
        "kind": "picture", "output_dir": tmp_path / "out", "output_format": "png", "scheme": SCHEME,
    }  # fmt: skip
    assert find_images(tmp_path / "in", skip_existing=True, **options) == []
    (tmp_path / "out" / "x_core_seg.png").unlink()
    assert [item["case"] for item in find_images(tmp_path / "in", skip_existing=True, **options)] == ["x"]
    # and what was written is not taken for an image
    assert [item["case"] for item in find_images(tmp_path, **options)] == ["x"]
