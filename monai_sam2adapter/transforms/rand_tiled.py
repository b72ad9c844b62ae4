# SPDX-License-Identifier: Apache-2.0
"""Random windows of images for training at full resolution."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import Compose, RandCropByLabelClassesd, SpatialPadd
from monai.utils import convert_to_tensor, ensure_tuple, ensure_tuple_rep

from .resize_with_labelsd import ResizeWithLabelsd

__all__ = ["RandTiled", "resize_or_draw_tile"]


class RandTiled(RandCropByLabelClassesd):
    """
    Crop one random window out of an image and its label, around a pixel of a random class.

    MONAI's ``RandCropByLabelClassesd`` with each class that the label holds as likely as any other, the background
    among them: with one class of foreground every second window is around it, with more of them more. Here a label may
    lack classes, or hold the background alone, without a warning; pixels that do not count are never the middle, unless
    there are no others; and the result is one item, not a list of one. Windows lie inside the image: around a pixel at
    its border they are moved.

    Args:
        keys: keys of images and labels, ``(C, h, w)``, of one size.
        label_key: which of them is the label, ``(1, h, w)``, class numbers from 0; or ``(K, h, w)``, masks of classes
            that overlap, whose pixels of no class are one more.
        tile: size of the window in pixels, one number for both sides or ``(h, w)``.
        ignore_label: number in labels of pixels that do not count. Defaults to None: all do.

    Raises:
        ValueError: in use, when an image is smaller than the window, as ``SpatialPadd`` in front prevents.
    """

    def __init__(
        self, keys: KeysCollection, label_key: str, tile: int | Sequence[int], ignore_label: int | None = None
    ) -> None:
        super().__init__(keys, label_key, ensure_tuple_rep(tile, 2), warn=False)
        self.ignore_label = ignore_label

    def randomize(self, label: torch.Tensor, indices: Any = None, image: torch.Tensor | None = None) -> None:
        """Draw the window for a label."""
        super().randomize(label, self._pixels_by_class(label) if indices is None else indices, image)

    def _pixels_by_class(self, label: torch.Tensor) -> list[Any]:
        """Of each class that is there, and of none of several masks, the places; of all places, where none counts."""
        flat = convert_to_tensor(label, track_meta=False).flatten(1).long()
        if len(flat) == 1:
            numbers = [
                number for number in flat[0].bincount().nonzero().flatten().tolist() if number != self.ignore_label
            ]
            places = [(flat[0] == number).nonzero().flatten() for number in numbers]
        else:
            groups = [*(flat == 1), (flat == 0).all(dim=0)]
            places = [group.nonzero().flatten() for group in groups if group.any()]
        return places or [torch.arange(flat.shape[1])]

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:  # type: ignore[override]
        """
        Args:
            data: dictionary with an array or tensor for each key.
            lazy: as in MONAI. Defaults to None.

        Returns:
            the same items, cropped.
        """
        return super().__call__(data, lazy)[0]


def resize_or_draw_tile(
    keys: KeysCollection,
    label_keys: KeysCollection,
    spatial_size: int | Sequence[int],
    tile: int | Sequence[int] | None = None,
    ignore_label: int | None = None,
) -> Compose:
    """
    The transforms that bring images of a training to the size that the network runs at: as a whole, or in windows.

    Args:
        keys: keys of images ``(C, h, w)``.
        label_keys: key of their label ``(1, h, w)``, or of masks ``(K, h, w)``.
        spatial_size: size that images are resized to. Of no effect with ``tile``.
        tile: size of random windows at full resolution, one number or ``(h, w)``. Defaults to None.
        ignore_label: number in labels of pixels that do not count. Defaults to None.

    Returns:
        :py:class:`ResizeWithLabelsd`, or with ``tile`` MONAI's ``SpatialPadd`` for what is smaller, which repeats the
        border of image and label as :py:class:`monai_sam2adapter.inferers.ResizeInferer` does, and
        :py:class:`RandTiled`.

    Raises:
        ValueError: when the size is not one or two positive integers, or there is not one label.
    """
    labels = ensure_tuple(label_keys)
    if tile is None:
        return Compose([ResizeWithLabelsd(keys, spatial_size, labels)])
    if len(labels) != 1:
        raise ValueError(f"windows are drawn by one label, got label_keys {labels}; name one.")
    both = (*ensure_tuple(keys), *labels)
    return Compose([SpatialPadd(both, tile, mode="edge"), RandTiled(both, labels[0], tile, ignore_label)])
