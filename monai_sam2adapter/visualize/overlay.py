# SPDX-License-Identifier: Apache-2.0
"""Draw segmentations over images: arrays in, an RGB picture out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from nibabel.orientations import aff2axcodes
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion

from ..data.label_scheme import PALETTE

__all__ = ["PALETTE", "draw_case", "draw_overlay"]

_TITLE_HEIGHT = 26
_GAP = 6
_BACKGROUND = (24, 24, 24)
_TEXT = (235, 235, 235)
# which anatomical direction is the more vertical one of a picture: left-right, front-back, head-feet
_VERTICALITY = {"L": 0, "R": 0, "P": 1, "A": 1, "I": 2, "S": 2}


def draw_case(
    image: np.ndarray,
    prediction: np.ndarray,
    label: np.ndarray | None = None,
    affine: np.ndarray | None = None,
    class_names: Sequence[str] = (),
    slice_axis: int = -1,
    panel_height: int = 320,
    class_colors: Sequence[tuple[int, int, int]] = PALETTE,
) -> np.ndarray:
    """
    Draw the middle slice of a volume that has a structure in it, upright, as :py:func:`draw_overlay` does.

    "Middle" is the median of the slices with a structure in the label, else in the prediction, else the middle one.
    With an affine the slice is turned as radiologists look at it: front or head up, the patient's right on the left.
    Without, the first array axis runs to the right and the second down.

    Args:
        image: intensities, ``(X, Y, Z)``.
        prediction: class of each voxel, ``(X, Y, Z)``, 0 is background.
        label: true class of each voxel, ``(X, Y, Z)``. Defaults to None: no such panel.
        affine: voxel to world (RAS+, mm) matrix, ``(4, 4)``. Defaults to None.
        class_names: names of the classes 1, 2, ... for the legend. Defaults to none.
        slice_axis: array axis that is cut into slices. Defaults to -1.
        panel_height: see :py:func:`draw_overlay`. Defaults to 320.
        class_colors: see :py:func:`draw_overlay`. Defaults to :py:data:`PALETTE`.

    Returns:
        picture, ``(rows, columns, 3)``, uint8.

    Raises:
        ValueError: when the arrays are not three-dimensional or differ in shape.
    """
    shapes = [array.shape for array in (image, prediction, label) if array is not None]
    if image.ndim != 3 or len(set(shapes)) > 1:
        raise ValueError(
            f"image, prediction and label must be volumes (X, Y, Z) of one shape, got {shapes}; invert the resizing of "
            "the prediction first."
        )
    axis = slice_axis % 3
    marked = [np.flatnonzero(mask.any(axis=_others(axis))) for mask in (label, prediction) if mask is not None]
    indices = next((found for found in marked if len(found)), np.arange(image.shape[axis]))
    index = indices[len(indices) // 2]

    codes = ("L", "P", "S") if affine is None else aff2axcodes(affine)
    first, second = (codes[other] for other in _others(axis))

    def upright(volume: np.ndarray) -> np.ndarray:
        plane = volume.take(index, axis=axis)
        # rows must run down and columns right: towards back, feet and the patient's left
        plane = plane[_step(first), _step(second)]
        return plane.T if _VERTICALITY[first] < _VERTICALITY[second] else plane

    planes = upright(image), upright(prediction), None if label is None else upright(label)
    return draw_overlay(*planes, class_names, panel_height, class_colors)


def draw_overlay(
    image: np.ndarray,
    prediction: np.ndarray,
    label: np.ndarray | None = None,
    class_names: Sequence[str] = (),
    panel_height: int = 320,
    class_colors: Sequence[tuple[int, int, int]] = PALETTE,
) -> np.ndarray:
    """
    Draw an image, its true and its predicted classes side by side, each class filled and outlined in its color.

    Args:
        image: gray values ``(H, W)`` or colors ``(H, W, 3)``, any range; shown from the 1st to the 99th percentile.
        prediction: class of each pixel, ``(H, W)``, 0 is background.
        label: true class of each pixel, ``(H, W)``. Defaults to None: no such panel.
        class_names: names of the classes 1, 2, ... for the legend. Defaults to none: no legend.
        panel_height: least height of a panel, in pixels; smaller images are enlarged by a whole factor. Defaults to
            320.
        class_colors: red, green and blue of the classes 1, 2, ..., 0 to 255, again from the first when there are more
            classes. Defaults to :py:data:`PALETTE`.

    Returns:
        picture, ``(rows, columns, 3)``, uint8.

    Raises:
        ValueError: when the shapes do not fit.
    """
    if image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise ValueError(f"image must have shape (H, W) or (H, W, 3), got {image.shape}.")
    masks = {"image": None} | ({} if label is None else {"truth": label}) | {"prediction": prediction}
    for title, mask in masks.items():
        if mask is not None and mask.shape != image.shape[:2]:
            raise ValueError(f"{title} has shape {mask.shape}, expected that of the image, {image.shape[:2]}.")

    scale = max(1, math.ceil(panel_height / image.shape[0]))
    height, width = image.shape[0] * scale, image.shape[1] * scale
    base = _to_rgb(image).resize((width, height), Image.Resampling.BILINEAR)
    full_width = len(masks) * (width + _GAP) - _GAP
    font = ImageFont.load_default(size=16)
    places = _place_legend([font.getlength(name) for name in class_names], full_width)
    legend_height = places[-1][1] + _TITLE_HEIGHT if places else 0
    canvas = Image.new("RGB", (full_width, _TITLE_HEIGHT + height + legend_height), _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for column, (title, mask) in enumerate(masks.items()):
        left = column * (width + _GAP)
        panel = base if mask is None else _blend(np.asarray(base), mask, scale, class_colors)
        canvas.paste(panel, (left, _TITLE_HEIGHT))
        draw.text((left + _GAP, 3), title, fill=_TEXT, font=font)
    for color, name, (left, row) in zip(_colors(class_colors, len(class_names)), class_names, places, strict=True):
        top = _TITLE_HEIGHT + height + row
        draw.rectangle((left, top + 7, left + 12, top + 19), fill=color)
        draw.text((left + 18, top + 3), name, fill=_TEXT, font=font)
    return np.asarray(canvas)


def _place_legend(text_widths: Sequence[float], full_width: int) -> list[tuple[int, int]]:
    """Left and top of each entry of the legend, in as many rows as it takes."""
    places: list[tuple[int, int]] = []
    left, top = _GAP, 0
    for text_width in text_widths:
        entry_width = 18 + math.ceil(text_width) + 3 * _GAP
        if left > _GAP and left + entry_width > full_width:
            left, top = _GAP, top + _TITLE_HEIGHT
        places.append((left, top))
        left += entry_width
    return places


def _step(code: str) -> slice:
    return slice(None, None, -1 if code in "RAS" else 1)


def _others(axis: int) -> tuple[int, int]:
    first, second = (other for other in range(3) if other != axis)
    return first, second


def _colors(colors: Sequence[tuple[int, int, int]], count: int) -> list[tuple[int, int, int]]:
    return [colors[index % len(colors)] for index in range(count)]


def _to_rgb(image: np.ndarray) -> Image.Image:
    values = np.nan_to_num(image.astype(np.float32))
    low, high = np.percentile(values, (1, 99))
    if high <= low:  # a constant image, or a few bright pixels on a constant one
        low, high = values.min(), values.max()
    gray = np.clip((values - low) / max(high - low, 1e-12), 0, 1) * 255
    return Image.fromarray(gray.astype(np.uint8)).convert("RGB")


def _blend(base: np.ndarray, mask: np.ndarray, scale: int, colors: Sequence[tuple[int, int, int]]) -> Image.Image:
    """Fill each class lightly and outline it by two pixels, on an image ``scale`` times as large as the mask."""
    classes = np.rint(mask).astype(int).repeat(scale, axis=0).repeat(scale, axis=1)
    blended = base.astype(np.float32)
    for index, color in enumerate(_colors(colors, classes.max(initial=0)), start=1):
        inside = classes == index
        edge = inside & ~binary_erosion(inside, iterations=2)
        blended[inside] = 0.7 * blended[inside] + 0.3 * np.asarray(color)
        blended[edge] = color
    return Image.fromarray(blended.astype(np.uint8))
