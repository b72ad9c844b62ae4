# SPDX-License-Identifier: Apache-2.0
"""Reading anyone's labels that overlap, and counting them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..class_masks import class_masks
from ..orientation import VolumeAxes
from .case_files import files_of
from .labels import read_picture, read_volume
from .layouts import LabeledCases

__all__ = ["count_masks", "find_overlapping_classes", "overlaps_of", "read_masks"]


def find_overlapping_classes(found: LabeledCases, kind: str) -> tuple[str, ...]:
    """
    Args:
        found: the cases, with overlapping labels.
        kind: "volume" or "picture".

    Returns:
        the names of the classes, without a background; ``class 1`` and so on, where the data do not say.

    Raises:
        FileNotFoundError: when the labels of the first case are not there.
        ValueError: when they cannot be read.
    """
    if found.class_names is not None:
        return found.class_names
    masks, _ = _read_labels(found.all_cases[0], kind)
    return tuple(f"class {number}" for number in range(1, len(masks) + 1))


def read_masks(
    case: Mapping[str, Any], kind: str, found: LabeledCases, ignore_label: int | None = None
) -> tuple[np.ndarray, VolumeAxes]:
    """
    Args:
        case: one of the cases.
        kind: "volume" or "picture".
        found: all cases, whose classes have names.
        ignore_label: value of pixels that do not count. Defaults to None: all count.

    Returns:
        a mask for each class, see :py:func:`monai_sam2adapter.data.class_masks.class_masks`; and how the axes lie.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it cannot be read, or holds anything else.
    """
    labels, axes = _read_labels(case, kind)
    return class_masks(labels, files_of(case["label"])[0], found.class_names or (), found.regions, ignore_label), axes


def count_masks(masks: np.ndarray) -> np.ndarray:
    """
    Args:
        masks: as of :py:func:`overlaps_of`.

    Returns:
        how many pixels each class has, int64, ``(K,)``.
    """
    return np.array([np.count_nonzero(mask == 1) for mask in masks], dtype=np.int64)


def overlaps_of(masks: np.ndarray) -> np.ndarray:
    """
    Args:
        masks: of 0 and 1, and other values where a pixel does not count, ``(K, *spatial)``.

    Returns:
        how many pixels each two classes have in common, and of each class all on the diagonal, int64, ``(K, K)``.
    """
    flat = (masks == 1).reshape(len(masks), -1)
    return np.array([[np.count_nonzero(one & other) for other in flat] for one in flat], dtype=np.int64)


def _read_labels(case: Mapping[str, Any], kind: str) -> tuple[np.ndarray, VolumeAxes]:
    if kind == "volume":
        return read_volume(case["label"])
    masks = [read_picture(file, labels=True) for file in files_of(case["label"])]
    sizes = {mask.shape[1:]: file for mask, file in zip(masks, files_of(case["label"]), strict=True)}
    if len(sizes) > 1:
        shapes = ", ".join(f"{file} {shape[1]} x {shape[0]}" for shape, file in sizes.items())
        raise ValueError(f"the masks of {case['case']} differ in size: {shapes}; expected one size for all classes")
    return np.concatenate(masks), VolumeAxes(np.eye(4))
