# SPDX-License-Identifier: Apache-2.0
"""Masks of overlapping classes, and regions of label maps, as the channels that a network is trained with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImaged
from PIL import Image

from monai_sam2adapter.data import ImageFileReader
from monai_sam2adapter.transforms import LabelsToMasksd, ResizeWithLabelsd


def test_type_and_place_stay() -> None:
    labels = MetaTensor(torch.tensor([[[0.0, 1.0], [2.0, 7.0]]]), affine=2 * torch.eye(4, dtype=torch.float64))
    labels.meta["filename_or_obj"] = "a.nii.gz"
    masks = LabelsToMasksd("label", ["whole", "core"], [[1, 2], [2]], ignore_label=7)({"label": labels})["label"]
    assert masks.tolist() == [[[0, 1], [1, 7]], [[0, 0], [1, 7]]]
    assert masks.dtype == torch.float32
    assert masks.meta["filename_or_obj"] == "a.nii.gz"
    torch.testing.assert_close(masks.affine, labels.affine)


def test_the_masks_of_several_pictures_are_channels(tmp_path: Path) -> None:
    masks = np.zeros((2, 5, 4), dtype=np.uint8)  # (K, X, Y)
    masks[0, :3], masks[1, 2:, 1:] = 255, 255
    files = [str(tmp_path / f"{name}.png") for name in "ab"]
    for file, mask in zip(files, masks, strict=True):
        Image.fromarray(mask.T).save(file)
    load = LoadImaged("label", reader=ImageFileReader(labels=True), ensure_channel_first=True)
    item = LabelsToMasksd("label", ["a", "b"])(load({"label": files}))
    np.testing.assert_array_equal(item["label"].numpy(), masks / 255)
    Image.fromarray(masks[0]).save(files[1])
    with pytest.raises((ValueError, RuntimeError)) as caught:
        load({"label": files})
    assert "expected masks of one page and one size" in str(caught.value) + str(caught.value.__cause__)
    with pytest.raises(ValueError, match="reads one file at a time"):
        ImageFileReader().get_data(files)


def test_each_mask_is_resized_by_itself() -> None:
    masks = torch.zeros(2, 4, 4)
    masks[0, :, :2], masks[1, :, :3] = 1, 1
    item = ResizeWithLabelsd("image", (2, 2), "label")({"image": torch.zeros(1, 4, 4), "label": masks})
    # columns 2 and 3 of the second class are half and half, and then the higher number wins
    assert item["label"].tolist() == [[[1, 0], [1, 0]], [[1, 1], [1, 1]]]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"class_names": ["a"], "regions": [[1], [2]]}, "2 regions of 1 classes"),
        ({"class_names": ["a"], "ignore_label": 255}, "from 2 to 254"),
        ({"class_names": ["a"], "ignore_label": 1}, "from 2 to 254"),
        ({"class_names": ["a", "b"], "regions": [[1, 2], [2]], "ignore_label": 2}, "from 3 to 65535"),
    ],
)
def test_ill_arg(arguments: dict, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        LabelsToMasksd("label", **arguments)
