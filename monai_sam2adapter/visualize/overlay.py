# SPDX-License-Identifier: Apache-2.0
"""Draw segmentations over images: arrays or the output of an engine in, an RGB picture out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.orientations import aff2axcodes
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion

from ..data.label_scheme import PALETTE

__all__ = ["PALETTE", "OverlayPlanes", "draw_overlay", "output_planes"]

_TITLE_HEIGHT = 26
_GAP = 6
_BACKGROUND = (24, 24, 24)
_TEXT = (235, 235, 235)
# which anatomical direction is the more vertical one of a picture: left-right, front-back, head-feet
_VERTICALITY = {"L": 0, "R": 0, "P": 1, "A": 1, "I": 2, "S": 2}


class OverlayPlanes(NamedTuple):
    """
    What one picture shows, not drawn yet: small enough to be kept for later.

    Args:
        image: gray values or colors as they are shown, ``(H, W)`` or ``(H, W, 3)``, uint8.
        prediction: class of each pixel, ``(H, W)``, int16; of classes that overlap where each is, ``(H, W, K)``.
        label: true class of each pixel, likewise; None without truth.
    """

    image: np.ndarray
    prediction: np.ndarray
    label: np.ndarray | None

    def fit(self, width: int, height: int) -> OverlayPlanes:
        """
        Args:
            width: most pixels of a plane from left to right.
            height: most pixels of a plane from top to bottom.

        Returns:
            the planes, reduced in size where they are larger.
        """
        rows, columns = self.prediction.shape[:2]
        factor = min(1.0, width / columns, height / rows)
        if factor == 1:
            return self
        size = max(1, round(columns * factor)), max(1, round(rows * factor))
        masks = [None if mask is None else _resize(mask, size) for mask in (self.prediction, self.label)]
        image = np.asarray(Image.fromarray(self.image).resize(size, Image.Resampling.BOX))
        return OverlayPlanes(image, masks[0], masks[1])  # type: ignore[arg-type]

    def draw(
        self,
        class_names: Sequence[str] = (),
        panel_height: int = 320,
        class_colors: Sequence[tuple[int, int, int]] = PALETTE,
    ) -> np.ndarray:
        """
        Args:
            class_names: see :py:func:`draw_overlay`. Defaults to none.
            panel_height: see :py:func:`draw_overlay`. Defaults to 320.
            class_colors: see :py:func:`draw_overlay`. Defaults to :py:data:`PALETTE`.

        Returns:
            picture, ``(rows, columns, 3)``, uint8.
        """
        rows, columns = self.prediction.shape[:2]
        scale = max(1, math.ceil(panel_height / rows))
        height, width = rows * scale, columns * scale
        base = Image.fromarray(self.image).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
        masks = {"image": None, "truth": self.label, "prediction": self.prediction}
        if self.label is None:
            del masks["truth"]
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


def output_planes(
    case: Mapping[str, Any],
    image_key: str = "image",
    pred_key: str = "pred",
    label_key: str = "label",
    slice_axis: int = -1,
    overlapping: bool = False,
) -> OverlayPlanes:
    """
    Choose what to show of one case of an engine's output.

    Of a volume it is the median of the slices with a structure in the label, else in the prediction, else the middle
    one. It is turned as radiologists look at it, by the affine of the image: front or head up, the patient's right on
    the left. Without an affine, and in two-dimensional images, the first axis runs to the right and the second down.

    Args:
        case: one element of ``engine.state.output``, decollated.
        image_key: key of the image, ``(C, X, Y[, Z])``. Defaults to "image".
        pred_key: key of the prediction: one channel of class numbers, or a channel for each class (one-hot or logits).
            Defaults to "pred".
        label_key: key of the truth, like the prediction; where there is none, its panel is left out. Defaults to
            "label".
        slice_axis: spatial axis of a volume that is cut into slices. Where the image's metadata have a
            ``slice_direction``, that of ``OrientSlicesd``, it is the axis of that one. Defaults to -1.
        overlapping: whether a pixel may have several classes, or none: prediction and truth have a mask of 0 and 1 a
            channel, and none is a background. Defaults to False.

    Returns:
        what to draw.

    Raises:
        ValueError: when image, prediction and label differ in shape.
    """
    image = case[image_key]
    tensors = {"image": _plain(image), "prediction": _plain(case[pred_key])}
    if case.get(label_key) is not None:
        tensors["label"] = _plain(case[label_key])
    shapes = [tuple(tensor.shape[1:]) for tensor in tensors.values()]
    if len(set(shapes)) > 1 or len(shapes[0]) not in (2, 3):
        raise ValueError(
            f"{', '.join(tensors)} must be images (C, X, Y) or volumes (C, X, Y, Z) of one size, got {shapes}; invert "
            "the resizing of the prediction first."
        )
    if len(shapes[0]) == 2:
        planes = {name: _to_plane(name, tensor, overlapping).swapaxes(0, 1) for name, tensor in tensors.items()}
    else:
        codes = aff2axcodes(image.affine.cpu().numpy()) if isinstance(image, MetaTensor) else ("L", "P", "S")
        axis = _slice_axis(image, codes, slice_axis)
        tensors["image"] = tensors["image"][:1]
        index = _middle_slice([tensors[name] for name in ("label", "prediction") if name in tensors], axis, overlapping)
        sides = [codes[other] for other in _others(axis)]
        planes = {
            name: _upright(_to_plane(name, tensor.select(axis + 1, index), overlapping), sides)
            for name, tensor in tensors.items()
        }
    return _planes(planes["image"], planes["prediction"], planes.get("label"))


def draw_overlay(
    image: np.ndarray,
    prediction: np.ndarray,
    label: np.ndarray | None = None,
    class_names: Sequence[str] = (),
    panel_height: int = 320,
    class_colors: Sequence[tuple[int, int, int]] = PALETTE,
) -> np.ndarray:
    """
    Draw an image, its true and its predicted classes side by side, each class filled and outlined in its color; where
    classes overlap, the outlines lie on all that is filled.

    Args:
        image: gray values ``(H, W)`` or colors ``(H, W, 3)``, any range; shown from the 1st to the 99th percentile.
        prediction: class of each pixel, ``(H, W)``, 0 is background; of classes that overlap where each is, 0 or 1,
            ``(H, W, K)``.
        label: true class of each pixel, likewise. Defaults to None: no such panel.
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
    return _planes(image, prediction, label).draw(class_names, panel_height, class_colors)


def _middle_slice(masks: Sequence[torch.Tensor], axis: int, overlapping: bool) -> int:
    """Number of the median slice with a structure in the first mask that has any, else of the middle one."""
    for channels in masks:
        # faster than class numbers of a whole volume
        if overlapping:
            marks = (channels == 1).any(dim=0)
        else:
            marks = channels[0] != 0 if len(channels) == 1 else (channels[1:] > channels[:1]).any(dim=0)
        found = np.flatnonzero(marks.numpy().any(axis=_others(axis)))
        if len(found):
            return int(found[len(found) // 2])
    return masks[0].shape[axis + 1] // 2


def _slice_axis(image: torch.Tensor, codes: Sequence[str], slice_axis: int) -> int:
    """Number of the axis of slices, whether or not the volume is turned back to how its file has it."""
    direction = image.meta.get("slice_direction") if isinstance(image, MetaTensor) else None
    if direction is None:
        return slice_axis % 3
    return [_VERTICALITY[code] for code in codes].index(_VERTICALITY[direction])


def _to_plane(name: str, channels: torch.Tensor, overlapping: bool) -> np.ndarray:
    """``(C, H, W)`` to gray values or class numbers, ``(H, W)``, to colors, ``(H, W, 3)``, or masks, ``(H, W, C)``."""
    if name == "image" and len(channels) == 3:
        return channels.movedim(0, -1).numpy()
    if name != "image" and overlapping:
        return (channels == 1).movedim(0, -1).numpy()
    return (channels[0] if name == "image" or len(channels) == 1 else channels.argmax(dim=0)).numpy()


def _upright(plane: np.ndarray, codes: Sequence[str]) -> np.ndarray:
    """Rows must run down and columns right: towards back, feet and the patient's left."""
    first, second = codes
    plane = plane[_step(first), _step(second)]
    return plane.swapaxes(0, 1) if _VERTICALITY[first] < _VERTICALITY[second] else plane


def _planes(image: np.ndarray, prediction: np.ndarray, label: np.ndarray | None) -> OverlayPlanes:
    if image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise ValueError(f"image must have shape (H, W) or (H, W, 3), got {image.shape}.")
    for title, mask in (("truth", label), ("prediction", prediction)):
        if mask is not None and mask.shape[:2] != image.shape[:2]:
            raise ValueError(f"{title} has shape {mask.shape}, expected that of the image, {image.shape[:2]}.")
    masks = [None if mask is None else np.rint(mask).astype(np.int16) for mask in (prediction, label)]
    return OverlayPlanes(_to_shown(image), masks[0], masks[1])  # type: ignore[arg-type]


def _resize(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Class numbers or masks in another size, width and height."""
    if mask.ndim == 3:
        return np.stack([_resize(channel, size) for channel in np.moveaxis(mask, -1, 0)], axis=-1)
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))


def _to_shown(image: np.ndarray) -> np.ndarray:
    """Gray values or colors from 0 to 255, the 1st to the 99th percentile of the image."""
    values = np.nan_to_num(image.astype(np.float32))
    low, high = np.percentile(values, (1, 99))
    if high <= low:  # a constant image, or a few bright pixels on a constant one
        low, high = values.min(), values.max()
    return (np.clip((values - low) / max(high - low, 1e-12), 0, 1) * 255).astype(np.uint8)


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor).detach().float().cpu()


def _step(code: str) -> slice:
    return slice(None, None, -1 if code in "RAS" else 1)


def _others(axis: int) -> tuple[int, int]:
    first, second = (other for other in range(3) if other != axis)
    return first, second


def _colors(colors: Sequence[tuple[int, int, int]], count: int) -> list[tuple[int, int, int]]:
    return [colors[index % len(colors)] for index in range(count)]


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


def _blend(base: np.ndarray, mask: np.ndarray, scale: int, colors: Sequence[tuple[int, int, int]]) -> Image.Image:
    """Fill each class lightly and outline it by two pixels, on an image ``scale`` times as large as the mask."""
    classes = mask.repeat(scale, axis=0).repeat(scale, axis=1)
    number = mask.shape[2] if mask.ndim == 3 else classes.max(initial=0)
    parts = [classes[..., k] == 1 if mask.ndim == 3 else classes == k + 1 for k in range(number)]
    blended = base.astype(np.float32)
    for inside, color in zip(parts, _colors(colors, number), strict=True):
        blended[inside] = 0.7 * blended[inside] + 0.3 * np.asarray(color)
    for inside, color in zip(parts, _colors(colors, number), strict=True):
        blended[inside & ~binary_erosion(inside, iterations=2)] = color
    return Image.fromarray(blended.astype(np.uint8))
