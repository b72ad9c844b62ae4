# SPDX-License-Identifier: Apache-2.0
"""TIFF files of every kind that tifffile writes: read as tifffile reads them, or refused, never in part."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monai_sam2adapter.data import ImageFileReader, find_images

tifffile = pytest.importorskip("tifffile")

RNG = np.random.default_rng(0)
KINDS = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "f2", "f4", "f8", "c8"]
# samples a pixel, what the first of them are, and what the others are said to be
LAYOUTS = [
    (1, "minisblack", None),
    (2, "minisblack", ["unspecified"]),
    (2, "minisblack", ["unassalpha"]),
    (3, "minisblack", ["unspecified"] * 2),
    (5, "minisblack", ["unspecified"] * 4),
    (3, "rgb", None),
    (4, "rgb", ["unspecified"]),
    (4, "rgb", ["unassalpha"]),
    (4, "rgb", ["assocalpha"]),
    (5, "rgb", ["unspecified"] * 2),
    (5, "rgb", ["unassalpha", "unspecified"]),
]


def values(shape: tuple[int, ...], kind: str) -> np.ndarray:
    dtype = np.dtype(kind)
    if dtype.kind in "ui":
        limits = np.iinfo(dtype)
        return RNG.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return RNG.normal(size=shape).astype(dtype)


def write(path: Path, array: np.ndarray, **kwargs: Any) -> Path:
    tifffile.imwrite(path, array, **kwargs)
    return path


def check(path: Path) -> bool:
    """Whether the file is read; what is read is the whole, as tifffile reads it."""
    try:
        pages = ImageFileReader().read_pages(path)
    except ValueError:
        return False
    expected = tifffile.imread(path)
    if expected.ndim > 2 and expected.shape[-1] not in (3, 4):  # planes of colors
        expected = np.moveaxis(expected, 0, -1) if len(pages) == 1 else expected
    np.testing.assert_array_equal(np.stack(pages).squeeze(), expected.squeeze())
    return True


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_every_kind_of_pixel_is_read_whole_or_refused(planes: str, order: str, tmp_path: Path) -> None:
    read = set()
    for kind, (samples, photometric, extra) in itertools.product(KINDS, LAYOUTS):
        shape = (20, 30) if samples == 1 else (20, 30, samples) if planes == "contig" else (samples, 20, 30)
        options = {"photometric": photometric, "extrasamples": extra, "planarconfig": planes if samples > 1 else None}
        path = write(tmp_path / "a.tif", values(shape, kind), byteorder=order, metadata=None, **options)
        if check(path):
            read.add((kind, samples))
    assert read >= {("u1", 1), ("u2", 1), ("i2", 1), ("i4", 1), ("f4", 1), ("u1", 3)}
    assert all(samples in (1, 3) for _, samples in read)


STACKS = {
    "imagej": ((5, 20, 30), {"imagej": True}),
    "hyperstack": ((2, 3, 4, 20, 30), {"imagej": True}),
    "shaped": ((5, 20, 30), {}),
    "shaped colors": ((5, 20, 30, 3), {"photometric": "rgb"}),
    "ome": ((2, 3, 20, 30), {"ome": True}),
}


@pytest.mark.parametrize("name", STACKS)
def test_a_stack_is_read_whole_or_refused(name: str, tmp_path: Path) -> None:
    shape, options = STACKS[name]
    array = values(shape, "u1")
    path = write(tmp_path / "a.tif", array, **options)
    pages = np.stack(ImageFileReader().read_pages(path))
    np.testing.assert_array_equal(pages.reshape(shape), array)
    assert len(find_images(path, "picture")) == len(pages)
    if not options.get("ome"):
        write(path, array, truncate=True, **options)
        with pytest.raises(ValueError, match=f"it holds {len(pages)} planes, of which only 1 would be read"):
            ImageFileReader().read_pages(path)


@pytest.mark.parametrize("tile", [None, (16, 16, 16)])
def test_a_volume_in_one_page_is_refused(tile: tuple[int, ...] | None, tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", values((5, 32, 48), "u1"), volumetric=True, tile=tile)
    with pytest.raises(ValueError, match=r"a\.tif cannot be read: it holds 5 planes"):
        ImageFileReader().read_pages(path)


@pytest.mark.parametrize("text", ["{", "{not: json}", "[1]", "ImageJ=1.53\nunit=um", "<OME />", ""])
def test_other_descriptions_are_no_hindrance(text: str, tmp_path: Path) -> None:
    assert check(write(tmp_path / "a.tif", values((20, 30), "u1"), description=text, metadata=None))
