# SPDX-License-Identifier: Apache-2.0
"""Checking pictures and their masks of two classes; each 2D data set uses it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from tqdm import tqdm

from ..pixel_values import gray_mask_problem, has_colors
from ..readers.pictures import ImageFileReader
from .check import DatasetReport

__all__ = ["check_images_and_masks"]


def check_images_and_masks(
    items: Sequence[Mapping[str, str]],
    parts: Mapping[str, Collection[str]],
    report: DatasetReport,
    colored: bool | None,
    bright_class: int = 1,
    progress: bool = True,
    soft: bool = False,
    may_be_empty: bool = False,
) -> None:
    """
    Read pictures and black and white masks, and write down in the report what they hold and what is wrong with them.

    Args:
        items: ``image``, ``label`` (paths, empty where there is no such file) and ``case`` of each.
        parts: the cases in each part of the split, as ``name_parts`` gives them.
        report: where to write.
        colored: whether the images should be RGB, or gray; None for either.
        bright_class: class of the white pixels in the masks, 0 or 1; the black ones are of the other. Defaults to 1.
        progress: whether to show a progress bar. Defaults to True.
        soft: whether masks may be gray, see ``gray_mask_problem``. Defaults to False.
        may_be_empty: whether a mask may hold one class only. Defaults to False.
    """
    things = f"{report.image_word}s"
    for part in parts:
        report.count(part, **{things: 0})
    for item in tqdm(items, desc=f"Checking {report.name}", unit=report.image_word, disable=not progress):
        report.count_case(parts, item["case"], **{things: 1})
        image, mask = _read(item["image"], report), _read(item["label"], report)
        if image is not None:
            report.shapes.append((image.shape[1], image.shape[0]))
            problems = [*_image_problems(image, colored), *report.copy_problems(item["image"], [image])]
            report.problems += [f"{item['image']}: {problem}" for problem in problems]
        if mask is not None:
            problems = _mask_problems(mask, item["label"], bright_class, report, soft, may_be_empty)
            if image is not None and image.shape[:2] != mask.shape[:2]:
                problems.append(f"has {_size(mask)} pixels, its image {_size(image)}")
            report.problems += [f"{item['label']}: {problem}" for problem in problems]
    report.problems += [
        f"{report.folder}: no {report.image_word} of the part {part!r} of the split"
        for part in parts
        if not report.counts[part][things]
    ]


def _read(path: str, report: DatasetReport) -> np.ndarray | None:
    """Pixels ``(Y, X)`` or ``(Y, X, 3)``; None, and a problem in the report, when there is nothing that can be read."""
    if not path:
        return None
    try:
        pages = ImageFileReader().read_pages(path)
    except (ValueError, OSError) as error:
        report.problems.append(f"{path}: {str(error).removeprefix(path).strip()}")
        return None
    return pages[0] if len(pages) == 1 else None  # a stack is a problem of the layout


def _image_problems(image: np.ndarray, colored: bool | None) -> list[str]:
    problems = []
    if image.dtype != np.uint8:
        problems.append(
            f"has values of {8 * image.dtype.itemsize} bits, {image.min():g} to {image.max():g}; expected 8"
        )
    if colored and image.ndim == 2:
        problems.append("is gray, expected colors")
    if colored is False and has_colors(image):
        problems.append("has colors, expected gray")
    if image.min() == image.max():
        problems.append("is empty: all pixels are equal")
    return problems


def _mask_problems(
    mask: np.ndarray, file: str, bright_class: int, report: DatasetReport, soft: bool, may_be_empty: bool
) -> list[str]:
    """Problems of a mask; where it is well, its pixels go into the histogram of the report."""
    if has_colors(mask):
        return ["has colors, expected black and white"]
    gray = mask if mask.ndim == 2 else mask[..., 0]
    problem = gray_mask_problem(gray, file, soft)
    if problem:
        return [problem]
    bright = int((gray >= 128).sum())
    counts = np.array([gray.size - bright, bright] if bright_class else [bright, gray.size - bright])
    report.voxels += counts
    report.volumes_with_class += counts > 0
    if not counts.all() and not may_be_empty:
        return [f"is empty: all pixels are {report.class_names[int(counts.argmax())]}"]
    return []


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[1]} x {picture.shape[0]}"
