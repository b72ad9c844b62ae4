# SPDX-License-Identifier: Apache-2.0
"""What the values of an image may be: gray or colors, black and white, Hounsfield units."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = [
    "counted_pixels",
    "counted_values",
    "depth_problem",
    "gray_mask_problem",
    "has_colors",
    "hounsfield_problem",
    "is_ct",
    "is_jpeg",
    "is_normalization",
    "precision_problem",
]

# JPEG's rounding makes the three channels of a gray picture differ by a few values
_COLOR_TOLERANCE = 16
# JPEG turns 0 and 255 into 0 to 7 and 248 to 255 in Kvasir-SEG; anything this far from both is another value
_GRAY_TOLERANCE = 32
# of a JPEG alone this part may be farther: pixels at the edge, where a mask was resized before it was saved
_SHARE_OF_JPEG = 0.01
_NUMBERS = ("lower", "upper", "mean", "std")  # by which a channel is normalized
# there is air around a body (-1000) and bone in it, whatever the scanner: a scan that was shifted so that air is 0, cut
# to a window or normalized lacks values below or above these
_AIR, _BONE = -500, 100
# of the range of an image, which the rounding of its values to single precision may not exceed
_ROUNDING = 0.01


def has_colors(picture: np.ndarray, is_jpeg: bool) -> bool:
    """Whether the channels of a picture, ``(Y, X)`` or ``(Y, X, 3)``, differ, in a JPEG by more than its rounding."""
    return picture.ndim == 3 and int(np.ptp(picture, axis=-1).max()) > (_COLOR_TOLERANCE if is_jpeg else 0)


def counted_pixels(mask: np.ndarray, file: str, ignore_label: int) -> np.ndarray:
    """
    Args:
        mask: values, of any shape.
        file: its name; in JPEG files, by their extension, neighbors of the value are the value, too.
        ignore_label: value of the pixels that do not count.

    Returns:
        which pixels count, of the same shape.
    """
    return np.abs(mask.astype(np.float64) - ignore_label) > (_GRAY_TOLERANCE if is_jpeg(file) else 0)


def counted_values(mask: np.ndarray, file: str, ignore_label: int | None) -> np.ndarray:
    """The values of the pixels that count, in a row; the mask itself where all count by definition."""
    return mask if ignore_label is None else mask[counted_pixels(mask, file, ignore_label)]


def gray_mask_problem(mask: np.ndarray, file: str, soft: bool = False, ignore_label: int | None = None) -> str:
    """
    Say why a mask cannot be cut into two classes by a threshold between black and white.

    Masks of 0 and 1, of 0 and 65535, or of one gray value for each of several classes would be cut all the same, and
    wrongly.

    Args:
        mask: gray values, of any shape and type.
        file: its name; JPEG files, by their extension, may hold some other values.
        soft: whether edges may be gray, of any width, so that any value from 0 to 255 may be there. Defaults to False.
        ignore_label: gray value of pixels that do not count. Defaults to None: all count.

    Returns:
        what the mask holds and what is expected; empty when all is well.
    """
    expected = "expected 0 (black) and 255 (white)"
    if mask.size == 0:
        return f"has no pixels; {expected}"
    number, mask = mask.size, counted_values(mask, file, ignore_label)
    if mask.size < number and (not mask.size or (is_jpeg(file) and mask.max() <= _GRAY_TOLERANCE)):
        return ""  # nothing that counts is white
    low, high = float(mask.min()), float(mask.max())
    if not (0 <= low <= high <= 255):  # written so that NaN is a problem too
        return f"has the values {low:g} to {high:g}; {expected}"
    if 0 < high < 128:
        return f"has no value above {high:g}; {expected}"
    if soft:
        return ""
    between = (mask > _GRAY_TOLERANCE) & (mask < 255 - _GRAY_TOLERANCE)
    allowed = _SHARE_OF_JPEG if is_jpeg(file) else 0
    if between.mean() > allowed:
        values = np.unique(mask[between])
        text = ", ".join(f"{value:g}" for value in values[:5]) + (", ..." if len(values) > 5 else "")
        return f"has other gray values in {100 * between.mean():.2g} % of its pixels ({text}); {expected}"
    return ""


def is_jpeg(file: str) -> bool:
    """Whether a file is compressed with loss, by its extension."""
    return file.lower().endswith((".jpg", ".jpeg"))


def hounsfield_problem(low: float, high: float) -> str:
    """
    Say why a scan of the trunk, with values from ``low`` to ``high``, cannot be in Hounsfield units.

    Returns:
        what the range is and what is expected, to be put behind the file's name; empty when all is well.
    """
    if low < _AIR and high > _BONE:  # written so that NaN is a problem too
        return ""
    return (
        f"is not in Hounsfield units: values from {low:.4g} to {high:.4g}, expected air near -1000 and bone above "
        f"{_BONE}; take the original scan"
    )


def is_normalization(channel: Any) -> bool:
    """
    Whether this is what :py:class:`monai_sam2adapter.transforms.NormalizeChannelsd` takes for a channel.

    Args:
        channel: anything.
    """
    if not isinstance(channel, Mapping) or not set(channel) <= set(_NUMBERS):
        return False
    if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in channel.values()):
        return False
    limits, figures = [[name for name in names if name in channel] for names in (_NUMBERS[:2], _NUMBERS[2:])]
    return (not limits or (len(limits) == 2 and channel["lower"] < channel["upper"])) and (
        not figures or (len(figures) == 2 and channel["std"] > 0)
    )


def is_ct(channel_name: str) -> bool:
    """Whether a channel is CT, by its name, whose values are in Hounsfield units."""
    return re.search(r"\bct\b", channel_name, re.IGNORECASE) is not None


def depth_problem(picture: np.ndarray, max_bits: int | None) -> str:
    """
    Say why a picture cannot be among those with at most ``max_bits`` bits a value; None for any number.

    Returns:
        what it has and what is expected, to be put behind the file's name; empty when all is well.
    """
    bits = 8 * picture.dtype.itemsize
    if max_bits is None or bits <= max_bits:
        return ""
    return (
        f"its values have {bits} bits ({picture.min():g} to {picture.max():g}), expected at most {max_bits}; scale "
        f"them to 0 to {2**max_bits - 1} and save it with {max_bits} bits"
    )


def precision_problem(values: np.ndarray) -> str:
    """
    Say why values of an image would be lost in single precision, in which networks compute: beyond its range, or all
    but equal when they are rounded to it.

    Returns:
        what they are and what to do, to be put behind the file's name; empty when all is well, or some are not finite,
        which is told by other means.
    """
    if values.dtype.kind not in "iuf" or values.dtype.itemsize < 4 or not values.size or values.dtype == np.float32:
        return ""
    low, high = values.min().item(), values.max().item()
    largest = max(abs(low), abs(high))
    if not largest < float("inf"):
        return ""
    if largest > float(np.finfo(np.float32).max):
        return f"holds values from {low:.4g} to {high:.4g}, which single precision cannot hold; scale them"
    if low < high and np.spacing(np.float32(largest)) > _ROUNDING * (high - low):
        return (
            f"holds values from {low} to {high}, which are all but equal in single precision; subtract the lowest from "
            "all"
        )
    return ""
