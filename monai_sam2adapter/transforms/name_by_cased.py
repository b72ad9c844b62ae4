# SPDX-License-Identifier: Apache-2.0
"""Naming results by their case."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

__all__ = ["NameByCased"]


class NameByCased(MapTransform):
    """
    Make ``monai.transforms.SaveImaged`` name its files by the case, which is unique, and not by the input file.

    By itself it cuts a file name at its first dot and ignores extensions: ``scan.1.nii.gz``, ``scan.2.nii.gz`` and
    ``scan.mha`` would all be written to ``scan_seg.nii.gz``, the last one wins.

    Args:
        keys: keys of the images to be saved, ``MetaTensor``.
        case_key: key of the case's name. Defaults to "case".
        allow_missing_keys: whether a key may be missing. Defaults to False.
    """

    def __init__(self, keys: KeysCollection, case_key: str = "case", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.case_key = case_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: dictionary with the case's name and the images.

        Returns:
            the same items, the images with the name in place of their file.

        Raises:
            ValueError: when there is no name, or an image carries no metadata.
        """
        items = dict(data)
        if self.case_key not in items:
            raise ValueError(f"there is no {self.case_key!r} to name results by, only {sorted(map(str, items))}.")
        for key in self.key_iterator(items):
            if not isinstance(items[key], MetaTensor):
                raise ValueError(f"{key!r} must be a MetaTensor to carry a name, got a {type(items[key]).__name__}.")
            items[key].meta["filename_or_obj"] = str(items[self.case_key])
        return items
