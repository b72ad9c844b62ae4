# SPDX-License-Identifier: Apache-2.0
"""From black and white pictures to classes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_numpy

from ..data.pixel_values import counted_pixels, gray_mask_problem
from .require import file_of, require_ignore_label

__all__ = ["GrayMaskToLabeld"]


class GrayMaskToLabeld(MapTransform):
    """
    Cut black and white masks (0 and 255, or about so in JPEG files) into the classes 0 and 1.

    It stops with the file's name at masks that a threshold would cut into anything else than was drawn: those of 0 and
    1, of several classes, of 16 bits, or, unless they are said to be soft, with gray edges; so it belongs behind
    ``LoadImaged``.

    Args:
        keys: keys of the masks.
        threshold: the first value that counts as white, above 0. Defaults to 128.
        bright_class: class of the white pixels, 0 or 1; the black ones are of the other. Defaults to 1.
        allow_missing_keys: whether a key may be missing. Defaults to False.
        soft: whether masks may hold any value from 0 to 255, as those with smooth edges do. Masks of several classes
            cannot be told from these. Defaults to False.
        ignore_label: gray value of pixels that count in no loss and no metric, 2 to 254, or about so in JPEG files; it
            becomes their label. Defaults to None: there are none.

    Raises:
        ValueError: when ``threshold`` is not from 1 to 255, ``bright_class`` neither 0 nor 1, or ``ignore_label`` not
            from 2 to 254.
    """

    def __init__(
        self,
        keys: KeysCollection,
        threshold: float = 128,
        bright_class: int = 1,
        allow_missing_keys: bool = False,
        soft: bool = False,
        ignore_label: int | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not 1 <= threshold <= 255:
            raise ValueError(f"threshold is {threshold}, expected 1 to 255.")
        if bright_class not in (0, 1):
            raise ValueError(f"bright_class is {bright_class}, expected 0 or 1.")
        self.threshold = threshold
        self.bright_class = bright_class
        if ignore_label is not None:
            require_ignore_label(ignore_label, 2, 254)  # 255 is white, 0 black
        self.soft = soft
        self.ignore_label = ignore_label

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: dictionary with an array or tensor of any shape for each key.

        Returns:
            the same items, the masks of 0 and 1, of the same type and shape and with the same metadata.

        Raises:
            ValueError: when a mask is not black and white.
        """
        items = dict(data)
        for key in self.key_iterator(items):
            mask = items[key]
            file = file_of(mask, key)
            values = convert_to_numpy(mask)
            problem = gray_mask_problem(values, file, self.soft, self.ignore_label)
            if problem:
                raise ValueError(f"{file} {problem}. Repair the file.")
            bright = mask >= self.threshold
            labels = bright if self.bright_class else ~bright
            items[key] = labels.to(mask.dtype) if isinstance(mask, torch.Tensor) else labels.astype(mask.dtype)
            if self.ignore_label is not None:
                items[key][~counted_pixels(values, file, self.ignore_label)] = self.ignore_label
        return items
