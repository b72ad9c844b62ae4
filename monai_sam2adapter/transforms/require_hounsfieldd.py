# SPDX-License-Identifier: Apache-2.0
"""Refusing CT that is not in Hounsfield units."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_tensor

from ..data.hounsfield import hounsfield_problem
from ..data.readers.transunet_reader import TransUNetArrayReader
from .file_of import file_of

__all__ = ["RequireHounsfieldd"]


class RequireHounsfieldd(MapTransform):
    """
    Pass scans on as they are, or stop with the file's name where they cannot be in Hounsfield units.

    A window in Hounsfield units, such as -125 to 275, makes nearly one value of a scan that was shifted or normalized.
    Scans of the trunk have air (below -500) and bone (above 100) in them, those of a small field of view may not: this
    is for training and evaluation, not for inference. Files of ``TransUNetArrayReader`` pass: they are cut to a window.

    Args:
        keys: keys of the scans.
        allow_missing_keys: whether a key may be missing. Defaults to False.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self._windowed = TransUNetArrayReader()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: dictionary with an array or tensor of any shape for each key.

        Returns:
            the same items.

        Raises:
            ValueError: when a scan has no value below -500 or none above 100, or a NaN.
        """
        items = dict(data)
        for key in self.key_iterator(items):
            file = file_of(items[key], key)
            if self._windowed.verify_suffix(file):
                continue
            scan = convert_to_tensor(items[key], track_meta=False)
            low, high = scan.aminmax() if scan.numel() else (float("nan"), float("nan"))
            problem = hounsfield_problem(float(low), float(high))
            if problem:
                raise ValueError(f"{file} {problem}.")
        return items
