# SPDX-License-Identifier: Apache-2.0
"""A picture of what a MONAI engine has put out for one case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from .overlay import PALETTE, draw_case, draw_overlay

__all__ = ["draw_output"]


def draw_output(
    case: Mapping[str, Any],
    class_names: Sequence[str],
    image_key: str = "image",
    pred_key: str = "pred",
    label_key: str = "label",
    slice_axis: int = -1,
    class_colors: Sequence[tuple[int, int, int]] = PALETTE,
) -> np.ndarray:
    """
    Draw image, truth and prediction of one case of an engine's output; without a label its panel is left out.

    Volumes are shown by :py:func:`draw_case`; two-dimensional images as MONAI's readers give them, first axis to the
    right.

    Args:
        case: one element of ``engine.state.output``, decollated.
        class_names: names of the classes 1, 2, ... (no background) for the legend.
        image_key: key of the image, ``(C, X, Y[, Z])``. Defaults to "image".
        pred_key: key of the prediction: one channel of class numbers, or a channel for each class (one-hot or logits).
            Defaults to "pred".
        label_key: key of the truth, like the prediction. Defaults to "label".
        slice_axis: spatial axis of a volume that is cut into slices. Defaults to -1.
        class_colors: red, green and blue of the classes 1, 2, ... Defaults to :py:data:`PALETTE`.

    Returns:
        picture, ``(rows, columns, 3)``, uint8.

    Raises:
        ValueError: when image, prediction and label differ in shape.
    """
    image = case[image_key]
    prediction = _to_classes(case[pred_key])
    label = None if case.get(label_key) is None else _to_classes(case[label_key])
    pixels = _to_numpy(image)
    if pixels.ndim == 4:  # (C, X, Y, Z)
        affine = image.affine.cpu().numpy() if isinstance(image, MetaTensor) else None
        return draw_case(pixels[0], prediction, label, affine, class_names, slice_axis, class_colors=class_colors)
    plane = pixels.T if len(pixels) == 3 else pixels[0].T  # (C, X, Y) -> (Y, X, 3) or (Y, X)
    return draw_overlay(plane, prediction.T, None if label is None else label.T, class_names, class_colors=class_colors)


def _to_numpy(tensor: torch.Tensor) -> np.ndarray:
    plain = tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
    return plain.detach().float().cpu().numpy()


def _to_classes(channels: torch.Tensor) -> np.ndarray:
    """Class numbers, ``(*spatial)``, from one channel that holds them or one channel for each class."""
    return _to_numpy(channels[0] if len(channels) == 1 else channels.argmax(dim=0))
