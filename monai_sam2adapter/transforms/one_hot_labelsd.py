# SPDX-License-Identifier: Apache-2.0
"""From class numbers to channels, with pixels that do not count."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.networks import one_hot
from monai.transforms import MapTransform

__all__ = ["OneHotLabelsd"]


class OneHotLabelsd(MapTransform):
    """
    One channel for each class, as by ``monai.transforms.AsDiscreted(to_onehot=...)``, but 0 in all of them where a
    pixel does not count. MONAI's metrics and ours take such pixels so, when they are given an ``ignore_index``.

    Args:
        keys: keys of the labels, class numbers, ``(1, *spatial)``.
        num_classes: number of classes, background counted.
        ignore_index: label of the pixels that do not count, no number of a class. Defaults to None: all count.
        allow_missing_keys: whether a key may be missing. Defaults to False.
    """

    def __init__(
        self,
        keys: KeysCollection,
        num_classes: int,
        ignore_index: int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: dictionary with the labels, tensors.

        Returns:
            the same items, the labels as ``(num_classes, *spatial)``, uint8; metadata is kept.
        """
        items = dict(data)
        for key in self.key_iterator(items):
            labels = items[key]
            ignored = torch.zeros_like(labels, dtype=torch.bool)
            if self.ignore_index is not None:
                ignored = labels == self.ignore_index
            labels = labels.masked_fill(ignored, 0)
            items[key] = one_hot(labels, self.num_classes, dtype=torch.uint8, dim=0) * ~ignored
        return items
