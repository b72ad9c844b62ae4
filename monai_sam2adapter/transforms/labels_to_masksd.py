# SPDX-License-Identifier: Apache-2.0
"""From labels that overlap to a mask for each class."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_numpy

from ..data.class_masks import class_masks
from .require import file_of, require_ignore_label

__all__ = ["LabelsToMasksd"]


class LabelsToMasksd(MapTransform):
    """
    Make one channel of 0 and 1 for each of the classes that overlap, of masks (0 and 1, or black and white) or of the
    regions of a label map; or stop with the file's name where there is anything else.

    MONAI's ``ConvertToMultiChannelBasedOnBratsClassesd`` does so for the regions of one data set.

    Args:
        keys: keys of the labels: ``(K, *spatial)``, masks in the order of ``class_names``, or with ``regions`` a label
            map, ``(1, *spatial)``.
        class_names: names of the classes.
        regions: for each class the numbers of the label map that belong to it. Defaults to None: there are masks.
        ignore_label: value of pixels that do not count, 2 to 254 in masks, and above all regions in label maps, at most
            65535. All channels hold it there. Defaults to None: all count.
        allow_missing_keys: whether a key may be missing. Defaults to False.

    Raises:
        ValueError: when ``regions`` are not as many as the classes, or ``ignore_label`` is another number.

    Example:
        >>> import torch
        >>> from monai_sam2adapter.transforms import LabelsToMasksd
        >>> to_masks = LabelsToMasksd("label", ["whole tumor", "core"], regions=[[1, 2], [2]])
        >>> to_masks({"label": torch.tensor([[[0, 1, 2]]])})["label"]
        tensor([[[0, 1, 1]],
        <BLANKLINE>
                [[0, 0, 1]]])
    """

    def __init__(
        self,
        keys: KeysCollection,
        class_names: Sequence[str],
        regions: Sequence[Sequence[int]] | None = None,
        ignore_label: int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if regions is not None and len(regions) != len(class_names):
            raise ValueError(f"there are {len(regions)} regions of {len(class_names)} classes; give one for each.")
        if ignore_label is not None:
            highest = max((number for region in regions or () for number in region), default=1)
            require_ignore_label(ignore_label, highest + 1, 254 if regions is None else 65535)
        self.class_names = list(class_names)
        self.regions = regions
        self.ignore_label = ignore_label

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: dictionary with an array or tensor for each key.

        Returns:
            the same items, the labels as ``(K, *spatial)``, of the same type and with the same metadata.

        Raises:
            ValueError: when a label is anything else.
        """
        items = dict(data)
        for key in self.key_iterator(items):
            labels = items[key]
            values = convert_to_numpy(labels)
            masks = class_masks(values, file_of(labels, key), self.class_names, self.regions, self.ignore_label)
            dtype = labels.dtype if isinstance(labels, torch.Tensor) else values.dtype
            items[key] = convert_to_dst_type(masks, labels, dtype=dtype)[0]
        return items
