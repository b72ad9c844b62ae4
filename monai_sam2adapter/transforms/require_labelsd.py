# SPDX-License-Identifier: Apache-2.0
"""Refusing masks that hold anything but the classes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_tensor

from .file_of import file_of

__all__ = ["RequireLabelsd"]


class RequireLabelsd(MapTransform):
    """
    Pass masks on as they are, or stop with the file's name where a value is no integer from 0 to ``num_classes - 1``.

    A loss or a metric would stop without that name, on a GPU with an error about the device, or not at all.

    Args:
        keys: keys of the masks.
        num_classes: number of classes, background counted.
        allow_missing_keys: whether a key may be missing. Defaults to False.

    Raises:
        ValueError: when ``num_classes`` is below 1.
    """

    def __init__(self, keys: KeysCollection, num_classes: int, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}, expected at least 1.")
        self.num_classes = num_classes

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: dictionary with an array or tensor of any shape for each key.

        Returns:
            the same items.

        Raises:
            ValueError: when a mask holds another value.
        """
        items = dict(data)
        for key in self.key_iterator(items):
            labels = convert_to_tensor(items[key], track_meta=False)
            # written so that NaN is another value too
            wrong = labels[~((labels >= 0) & (labels < self.num_classes) & (labels == labels.floor()))]
            if wrong.numel():
                values = torch.unique(wrong)
                text = ", ".join(f"{value:g}" for value in values[:5].tolist()) + (", ..." if len(values) > 5 else "")
                raise ValueError(
                    f"{file_of(items[key], key)} holds the values {text} in {wrong.numel()} places; expected "
                    f"integers from 0 to {self.num_classes - 1}. Repair the file, or map its values to classes."
                )
        return items
