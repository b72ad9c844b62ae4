# SPDX-License-Identifier: Apache-2.0
"""Normalizing each channel in its own way."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import get_track_meta
from monai.transforms import MapTransform, NormalizeIntensity
from monai.utils import convert_to_tensor

from ..data.pixel_values import is_normalization
from ..utils import escaping_logger
from .require import file_of

__all__ = ["NormalizeChannelsd"]

logger = escaping_logger(__name__)

# part of the distance of the limits that the values of an image are expected to have
_LEAST = 0.05


class NormalizeChannelsd(MapTransform):
    """
    Clip each channel to its own limits, then normalize it by given figures, or by its own mean and standard deviation.

    MONAI's ``ScaleIntensityRanged`` clips all channels to the same limits, which does not do for a PET with its CT;
    ``NormalizeIntensity`` does the rest. Of an image that is nearly one value between its limits a warning names the
    file: it is hardly in the units of those that the limits are from.

    Args:
        keys: keys of the images.
        normalization: for each channel ``{"lower": ..., "upper": ..., "mean": ..., "std": ...}``. Without ``lower`` and
            ``upper`` it is not clipped; without ``mean`` and ``std``, those of the channel itself are taken, in each
            image. As :py:func:`monai_sam2adapter.data.describe_volumes` gives it.
        allow_missing_keys: whether a key may be missing. Defaults to False.

    Raises:
        ValueError: when ``normalization`` is anything else.
    """

    def __init__(
        self, keys: KeysCollection, normalization: Sequence[Mapping[str, float]], allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        for channel in normalization:
            if not is_normalization(channel):
                raise ValueError(
                    f"a channel has the normalization {channel}; expected the numbers lower and upper, or neither, "
                    "and mean and std, or neither, all finite, with lower below upper and std above 0"
                )
        if not normalization:
            raise ValueError("normalization is empty; expected one entry a channel")
        self.normalization = [dict(channel) for channel in normalization]
        self._normalize = NormalizeIntensity(
            subtrahend=[channel.get("mean") for channel in normalization],
            divisor=[channel.get("std") for channel in normalization],
            channel_wise=True,
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: dictionary with an array or tensor ``(C, *spatial)`` for each key.

        Returns:
            the same items, of type float32, normalized.

        Raises:
            ValueError: when an image has another number of channels.
        """
        items = dict(data)
        for key in self.key_iterator(items):
            image = convert_to_tensor(items[key], dtype=torch.float32, track_meta=get_track_meta())
            if len(image) != len(self.normalization):
                raise ValueError(
                    f"{key!r} has {len(image)} channels, but {len(self.normalization)} have a normalization; give one "
                    "entry a channel"
                )
            if any("lower" in channel for channel in self.normalization):
                image = image.clone()
                for values, channel in zip(image, self.normalization, strict=True):
                    if "lower" in channel:
                        low, high = values.aminmax()
                        values.clamp_(channel["lower"], channel["upper"])
                        if float(values.max() - values.min()) < _LEAST * (channel["upper"] - channel["lower"]):
                            _warn_of_units(file_of(items[key], key), float(low), float(high), channel)
            items[key] = self._normalize(image)
        return items


def _warn_of_units(file: str, low: float, high: float, channel: Mapping[str, float]) -> None:
    logger.warning(
        "%s has values from %.4g to %.4g, nearly one between the limits %.4g and %.4g; is it in the units of "
        "the training data, such as Hounsfield units?",
        *(file, low, high, channel["lower"], channel["upper"]),
    )
