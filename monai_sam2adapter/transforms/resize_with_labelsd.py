# SPDX-License-Identifier: Apache-2.0
"""Resizing of images together with their labels."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor, to_affine_nd
from monai.transforms import MapTransform
from monai.transforms.utils import scale_affine
from monai.utils import convert_to_tensor, ensure_tuple, ensure_tuple_rep

from ..utils import resize_images

__all__ = ["ResizeWithLabelsd"]

_ROUNDING = 1e-9  # shares that differ by less are equal


class ResizeWithLabelsd(MapTransform):
    """
    Resize images and their labels so that they lie on each other.

    MONAI's ``Resized`` has no such pair of modes: PyTorch's ``"nearest"`` takes the pixel at the corner and lies half a
    pixel beside ``"bilinear"``, ``"nearest-exact"`` lies so for even factors. A network that is trained on them gives
    shifted segmentations.

    - Images by the rule of :py:class:`monai_sam2adapter.inferers.ResizeInferer`: bilinear, filtered where they become
      smaller.
    - Labels by the share of each class, interpolated bilinearly; the class with the largest share wins, of equal ones
      the higher number. So no class is invented, and a line of one pixel survives the half size.

    Args:
        keys: keys of images ``(C, h, w)``; integers become float32.
        label_keys: keys of labels ``(1, h, w)``, class numbers; their type is kept. Defaults to none.
        spatial_size: new size in pixels, one number for both sides or ``(h, w)``.
        allow_missing_keys: whether a key may be missing. Defaults to False.

    Raises:
        ValueError: when ``spatial_size`` is not one or two positive integers.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spatial_size: int | Sequence[int],
        label_keys: KeysCollection = (),
        allow_missing_keys: bool = False,
    ) -> None:
        self.label_keys = ensure_tuple(label_keys)
        super().__init__((*ensure_tuple(keys), *self.label_keys), allow_missing_keys)
        sides = ensure_tuple(spatial_size)
        if len(sides) > 2 or not all(isinstance(side, int) and side > 0 for side in sides):
            raise ValueError(f"spatial_size must be one or two positive numbers of pixels, got {spatial_size!r}.")
        self.spatial_size = ensure_tuple_rep(spatial_size, 2)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: dictionary with an array or tensor for each key.

        Returns:
            the same items, resized, as tensors; the affine of a ``MetaTensor`` follows.

        Raises:
            ValueError: when an item has not three axes.
        """
        items = dict(data)
        for key in self.key_iterator(items):
            image = items[key]
            if image.ndim != 3:
                raise ValueError(f"{key!r} has the shape {tuple(image.shape)}, expected one image (C, h, w).")
            resize = _resize_labels if key in self.label_keys else _resize_image
            resized = resize(convert_to_tensor(image, track_meta=False), self.spatial_size)
            items[key] = _with_place(resized, image) if isinstance(image, MetaTensor) else resized
        return items


def _resize_image(image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    return resize_images(image[None] if image.is_floating_point() else image[None].float(), size)[0]


def _resize_labels(labels: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    if tuple(labels.shape[1:]) == tuple(size):
        return labels
    (rows, row_weights), (columns, column_weights) = map(_neighbors, labels.shape[1:], size)
    # the four pixels around each new one, (4, C, h, w)
    corners = torch.stack([labels[:, row][:, :, column] for row in rows for column in columns])
    result, is_mixed = corners[0].clone(), (corners != corners[0]).any(dim=0)
    weights = torch.stack([row[:, None] * column for row in row_weights for column in column_weights])[:, None]
    corners = corners[:, is_mixed]  # (4, mixed pixels), which are few
    weights = weights.to(labels.device).expand(-1, *result.shape)[:, is_mixed]
    shares = ((corners[:, None] == corners) * weights).sum(dim=1)  # of the class of each corner
    is_largest = shares > shares.amax(dim=0) - _ROUNDING
    result[is_mixed] = torch.where(is_largest, corners, corners.amin(dim=0)).amax(dim=0)
    return result


def _neighbors(old: int, new: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each new pixel along an axis the two old ones that it lies between, and their weights, ``(2, new)`` each."""
    place = ((torch.arange(new, dtype=torch.float64) + 0.5) * old / new - 0.5).clamp(0, old - 1)
    first = place.long()
    share = place - first
    return torch.stack([first, (first + 1).clamp(max=old - 1)]), torch.stack([1 - share, share])


def _with_place(resized: torch.Tensor, image: MetaTensor) -> MetaTensor:
    scale = torch.as_tensor(scale_affine(image.shape[1:], resized.shape[1:]), dtype=image.affine.dtype)
    result = MetaTensor(resized).copy_meta_from(image)
    result.affine = image.affine @ to_affine_nd(len(image.affine) - 1, scale)
    return result
