# SPDX-License-Identifier: Apache-2.0
"""Refusing labels that do not lie on their image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms import MapTransform

from ..data.geometry import place_problem, shape_problem
from .file_of import file_of

__all__ = ["RequireSameGeometryd"]


class RequireSameGeometryd(MapTransform):
    """
    Pass an image and its labels on as they are, or stop with the file's name where they do not lie on each other.

    Transforms resize each by itself, so that labels of another size or place are trained on without a word. Corners may
    be off by 0.01 of the smallest side of a voxel, as in ``check_image_and_label``. It belongs right behind
    ``LoadImaged``.

    Args:
        keys: key of the image, and of all that must lie on it. Of those without an affine (no ``MetaTensor``), only the
            shapes are compared.
        allow_missing_keys: whether a key may be missing, other than the image's. Defaults to False.

    Raises:
        ValueError: when there are less than 2 keys.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) < 2:
            raise ValueError(f"RequireSameGeometryd needs an image and its labels, got the keys {self.keys}.")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: dictionary with an array or tensor ``(C, *spatial)`` of 2 or 3 spatial axes for each key.

        Returns:
            the same items.

        Raises:
            ValueError: when a shape, without channels, or an affine differs from the image's.
        """
        items = dict(data)
        image = items[self.keys[0]]
        for key in self.key_iterator(items):
            label = items[key]
            problem = shape_problem(image.shape[1:], label.shape[1:])
            if not problem and isinstance(image, MetaTensor) and isinstance(label, MetaTensor):
                problem = place_problem(image.shape[1:], _affine(image), _affine(label))
            if problem:
                raise ValueError(
                    f"{file_of(label, key)} {problem}. The image is {file_of(image, self.keys[0])}; is it another case?"
                )
        return items


def _affine(image: MetaTensor) -> np.ndarray:
    return np.asarray(to_affine_nd(3, image.affine.numpy(force=True)))
