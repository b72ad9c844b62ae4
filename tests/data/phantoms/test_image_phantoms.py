# SPDX-License-Identifier: Apache-2.0
"""Synthetic ISBI 2012, Kvasir-SEG and pairs: variety, and that the labels fit what is drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from monai_sam2adapter.data import pair_datalist, write_pair_phantom


def pages(path: Path) -> np.ndarray:
    with Image.open(path) as stack:
        return np.stack([np.asarray(page) for page in ImageSequence.Iterator(stack)])


def test_membranes_are_dark_but_no_threshold_finds_them(isbi2012_phantom_dir: Path) -> None:
    images, labels = pages(isbi2012_phantom_dir / "train-volume.tif"), pages(isbi2012_phantom_dir / "train-labels.tif")
    assert images.shape == labels.shape == (6, 512, 512)
    assert set(np.unique(labels)) == {0, 255}
    for image, label in zip(images, labels, strict=True):
        membrane = label == 0
        assert 0.1 < membrane.mean() < 0.4
        assert image[membrane].mean() < image[~membrane].mean() - 50
        # mitochondria and vesicles are as dark as half of the membranes
        assert (~membrane & (image < np.quantile(image[membrane], 0.75))).sum() > 0.05 * membrane.sum()
    # neighbors are more alike than slices far apart
    same = [(labels[0] == labels[k]).mean() for k in (1, 5)]
    assert same[0] > same[1] + 0.05


def test_photographs_vary_and_hold_a_polyp_each(kvasir_phantom_dir: Path) -> None:
    sizes = set()
    for path in sorted((kvasir_phantom_dir / "images").iterdir()):
        image, mask = Image.open(path), Image.open(kvasir_phantom_dir / "masks" / path.name)
        assert image.format == mask.format == "JPEG"
        assert image.mode == mask.mode == "RGB"  # as in Kvasir-SEG
        assert image.size == mask.size
        sizes.add(image.size)
        colors, polyp = np.asarray(image).astype(float), np.asarray(mask)[..., 0] > 127
        assert 0.01 < polyp.mean() < 0.4
        # redder than the wall, on the whole
        share = colors[..., 0] / colors.sum(axis=-1).clip(1)
        assert share[polyp].mean() > share[~polyp].mean()
    assert len(sizes) == 6


def test_masks_are_soft_and_objects_differ(tmp_path: Path) -> None:
    write_pair_phantom(tmp_path, num_train=4, num_val=2, num_test=1, progress=False)
    sizes = set()
    for item in pair_datalist(tmp_path, "train"):
        image, mask = Image.open(item["image"]), np.asarray(Image.open(item["label"]))
        assert (image.format, image.mode, mask.ndim) == ("JPEG", "RGB", 2)
        assert image.size == mask.shape[::-1]
        assert 0.02 < (mask >= 128).mean() < 0.4
        assert ((mask > 32) & (mask < 223)).any()
        sizes.add(image.size)
    assert len(sizes) == 4
