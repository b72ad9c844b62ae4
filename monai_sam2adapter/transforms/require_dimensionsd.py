# SPDX-License-Identifier: Apache-2.0
"""Refusing images with another number of channels or axes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from .file_of import file_of

__all__ = ["RequireDimensionsd"]


class RequireDimensionsd(MapTransform):
    """
    Pass images on as they are, or stop with the file's name where they have another number of channels or axes.

    ``LoadImaged`` reads a 4D file, such as a cine, as a volume of many channels, and a stack of pictures as a volume;
    the network would stop in the middle of an epoch, and not say at which file.

    Args:
        keys: keys of the images.
        channels: number of channels, at least 1.
        spatial_dims: number of the other axes, 2 or 3.
        allow_missing_keys: whether a key may be missing. Defaults to False.

    Raises:
        ValueError: when ``channels`` or ``spatial_dims`` is anything else.
    """

    def __init__(
        self, keys: KeysCollection, channels: int, spatial_dims: int, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if channels < 1:
            raise ValueError(f"channels is {channels}, expected at least 1.")
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims is {spatial_dims}, expected 2 or 3.")
        self.channels = channels
        self.spatial_dims = spatial_dims

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: dictionary with an array or tensor ``(C, *spatial)`` for each key.

        Returns:
            the same items.

        Raises:
            ValueError: when an image has another number of channels or axes.
        """
        items = dict(data)
        for key in self.key_iterator(items):
            shape = tuple(items[key].shape)
            if (shape[0], len(shape) - 1) != (self.channels, self.spatial_dims):
                raise ValueError(
                    f"{file_of(items[key], key)} has {shape[0]} channels and {len(shape) - 1} spatial axes, expected "
                    f"{self.channels} and {self.spatial_dims} (shape {shape}, channels first). Of a file of several "
                    f"images, such as a 4D one, save the right one of them."
                )
        return items
