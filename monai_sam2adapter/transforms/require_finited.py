# SPDX-License-Identifier: Apache-2.0
"""Refusing images with NaN or infinite values, and those without any."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_tensor

from .file_of import file_of

__all__ = ["RequireFinited"]


class RequireFinited(MapTransform):
    """
    Pass images on as they are, or stop with the file's name where a voxel is NaN or infinite, or there is none.

    One such voxel makes the mean of the volume NaN, normalization makes every voxel NaN, and the segmentation is empty
    without a word.

    Args:
        keys: keys of the images.
        allow_missing_keys: whether a key may be missing. Defaults to False.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: dictionary with an array or tensor of any shape for each key.

        Returns:
            the same items.

        Raises:
            ValueError: when a value is NaN or infinite, or there is none.
        """
        items = dict(data)
        for key in self.key_iterator(items):
            image, file = convert_to_tensor(items[key], track_meta=False), file_of(items[key], key)
            if not image.numel():
                raise ValueError(f"{file} has no values: its shape is {tuple(image.shape)}; leave it out.")
            broken = int((~torch.isfinite(image)).sum())
            if broken:
                raise ValueError(f"{file} has {broken} NaN or infinite values; repair the file or leave it out.")
        return items
