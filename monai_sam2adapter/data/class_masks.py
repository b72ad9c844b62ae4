# SPDX-License-Identifier: Apache-2.0
"""Labels that overlap: a mask for each class, from masks of any of the usual values or from regions of a label map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .pixel_values import counted_pixels, gray_mask_problem, is_jpeg

__all__ = ["class_masks", "region_map"]


def class_masks(
    labels: np.ndarray,
    file: str,
    class_names: Sequence[str],
    regions: Sequence[Sequence[int]] | None = None,
    ignore_label: int | None = None,
) -> np.ndarray:
    """
    Args:
        labels: a mask for each class, ``(K, *spatial)``, each of 0 and 1 or of black (0) and white (255, or about so in
            JPEG files); with ``regions`` a label map, ``(1, *spatial)``.
        file: where they are from; of several files the first.
        class_names: names of the ``K`` classes.
        regions: for each class the numbers of the label map that belong to it. Defaults to None: there are masks.
        ignore_label: value of pixels that do not count: where a mask has it, the pixel counts for no class. Defaults to
            None: all count.

    Returns:
        for each class 0 and 1, and ``ignore_label`` in all of them where a pixel does not count, ``(K, *spatial)``,
        uint8, or uint16 where the latter needs it.

    Raises:
        ValueError: when there are more or fewer masks than classes, or a value is none of these.
    """
    expected = 1 if regions is not None else len(class_names)
    if len(labels) != expected:
        what = (
            "label map, whose numbers make the regions" if regions is not None else f"for each of {_list(class_names)}"
        )
        raise ValueError(f"{file} has {len(labels)} masks, expected {expected} {what}; repair the file")
    counted = np.ones(labels.shape[1:], dtype=bool)
    if ignore_label is not None:
        counted = np.all([counted_pixels(mask, file, ignore_label) for mask in labels], axis=0)
    if regions is None:
        masks = np.stack([_mask(mask, counted, file, name) for mask, name in zip(labels, class_names, strict=True)])
    else:
        _require_numbers(labels[0][counted], file, regions)
        masks = np.stack([np.isin(labels[0], region) for region in regions])
    result: np.ndarray = masks.astype(np.uint8 if ignore_label is None or ignore_label < 256 else np.uint16)
    if ignore_label is not None:
        result[:, ~counted] = ignore_label
    return result


def region_map(masks: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """
    Write regions back to one label map, as nnU-Net does: later ones over earlier ones.

    Args:
        masks: where each region is, ``(K, *spatial)``.
        order: ``regions_class_order``, a number for each.

    Returns:
        class numbers, ``(*spatial)``, uint8 or, where a number needs it, uint16.
    """
    labels = np.zeros(masks.shape[1:], dtype=np.uint8 if max(order) < 256 else np.uint16)
    for mask, number in zip(masks, order, strict=True):
        labels[mask.astype(bool)] = number
    return labels


def _mask(mask: np.ndarray, counted: np.ndarray, file: str, name: str) -> np.ndarray:
    values = mask[counted]
    if ((values == 0) | (values == 1)).all():
        return mask == 1
    problem = "" if is_jpeg(file) and values.max() < 32 else gray_mask_problem(values, file)
    if problem:
        raise ValueError(
            f"{file}: the mask of {name!r} {problem.partition(';')[0]}, or 0 and 1. Repair the mask, or give the value "
            "that does not count as ignore_label"
        )
    white: np.ndarray = mask >= 128
    return white


def _require_numbers(values: np.ndarray, file: str, regions: Sequence[Sequence[int]]) -> None:
    known = sorted({0, *(number for region in regions for number in region)})
    found = np.unique(values)
    wrong = found[~np.isin(found, known)]  # NaN is wrong too
    if len(wrong):
        raise ValueError(
            f"{file} holds the values {_list([f'{value:g}' for value in wrong])}; expected those of the regions, "
            f"{_list(known)}. Repair the file, or give the value that does not count as ignore_label"
        )


def _list(values: Sequence[object]) -> str:
    return ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
