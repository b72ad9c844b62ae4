# SPDX-License-Identifier: Apache-2.0
"""Synthetic ISBI 2012 and Kvasir-SEG: seeds, variety, and that the labels fit what is drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from monai_sam2adapter.data import write_isbi2012_phantom, write_kvasir_phantom


def pages(path: Path) -> np.ndarray:
    with Image.open(path) as stack:
        return np.stack([np.asarray(page) for page in ImageSequence.Iterator(stack)])


def test_slices_depend_on_seed_and_number_alone(isbi2012_phantom_dir: Path, tmp_path: Path) -> None:
    write_isbi2012_phantom(tmp_path / "less", num_slices=5, progress=False)
    write_isbi2012_phantom(tmp_path / "other", num_slices=5, seed=1, progress=False)
    for name in ("train-volume.tif", "train-labels.tif"):
        expected = pages(isbi2012_phantom_dir / name)
        assert expected.shape == (6, 512, 512)
        np.testing.assert_array_equal(pages(tmp_path / "less" / name), expected[:5])
        assert (pages(tmp_path / "other" / name) != expected[:5]).any(axis=(1, 2)).all()


def test_membranes_are_dark_but_no_threshold_finds_them(isbi2012_phantom_dir: Path) -> None:
    images, labels = pages(isbi2012_phantom_dir / "train-volume.tif"), pages(isbi2012_phantom_dir / "train-labels.tif")
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


def test_photographs_depend_on_seed_and_number_alone(kvasir_phantom_dir: Path, tmp_path: Path) -> None:
    write_kvasir_phantom(tmp_path / "less", num_images=3, progress=False)
    write_kvasir_phantom(tmp_path / "other", num_images=3, seed=1, progress=False)
    for path in (tmp_path / "less").glob("*/*.jpg"):
        name = path.relative_to(tmp_path / "less")
        assert path.read_bytes() == (kvasir_phantom_dir / name).read_bytes()
        assert path.read_bytes() != (tmp_path / "other" / name).read_bytes()


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


@pytest.mark.parametrize(
    ("write", "kwargs", "message"),
    [
        (write_isbi2012_phantom, {"num_slices": 4}, "num_slices is 4, expected 5 to 30"),
        (write_isbi2012_phantom, {"num_slices": 31}, "num_slices is 31, expected 5 to 30"),
        (write_kvasir_phantom, {"num_images": 2}, "num_images is 2, expected 3 to 1000"),
        (write_kvasir_phantom, {"seed": -1}, "seed is -1, expected 0 or more"),
    ],
)
def test_numbers_out_of_range_are_errors_and_nothing_is_written(
    tmp_path: Path, write: object, kwargs: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "new", progress=False, **kwargs)  # type: ignore[operator]
    assert not list(tmp_path.iterdir())
