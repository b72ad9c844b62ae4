# SPDX-License-Identifier: Apache-2.0
"""Refusing what would be trained on or segmented without a word, or stop with an error that names no file."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms import MapTransform
from monai.utils import convert_to_tensor

from ..data.geometry import place_problem, shape_problem
from ..data.pixel_values import hounsfield_problem
from ..data.readers import TransUNetArrayReader
from ..utils import escaping_logger, printable

logger = escaping_logger(__name__)

__all__ = [
    "RequireDimensionsd",
    "RequireFinited",
    "RequireHounsfieldd",
    "RequireLabelsd",
    "RequireSameGeometryd",
    "file_of",
]


def file_of(image: Any, key: object = "image") -> str:
    """The file that an image was read from; without metadata, the key of the item."""
    filename = image.meta.get("filename_or_obj") if isinstance(image, MetaTensor) else None
    return printable(filename or f"the item {str(key)!r}")


class _Requirement(MapTransform):
    """Pass items on as they are, or stop with the file's name and what is wrong with it."""

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: dictionary with an array or tensor for each key.

        Returns:
            the same items.

        Raises:
            ValueError: when one of them is not as required.
        """
        items = dict(data)
        for key in self.key_iterator(items):
            problem = self._problem(items[key], items)
            if problem:
                raise ValueError(f"{file_of(items[key], key)} {problem}")
        return items

    def _problem(self, image: Any, items: Mapping[Hashable, Any]) -> str:
        """What is wrong, behind the file's name; empty when all is well."""
        raise NotImplementedError


class RequireDimensionsd(_Requirement):
    """
    Pass images ``(C, *spatial)`` on as they are, or stop with the file's name where they have another number of
    channels or axes.

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

    def _problem(self, image: Any, items: Mapping[Hashable, Any]) -> str:
        shape = tuple(image.shape)
        if (shape[0], len(shape) - 1) == (self.channels, self.spatial_dims):
            return ""
        return (
            f"has {shape[0]} channels and {len(shape) - 1} spatial axes, expected {self.channels} and "
            f"{self.spatial_dims} (shape {shape}, channels first). Of a file of several images, such as a 4D one, save "
            "the right one of them."
        )


class RequireFinited(_Requirement):
    """
    Pass images on as they are, or stop with the file's name where a voxel is NaN or infinite, or there is none.

    One such voxel makes the mean of the volume NaN, normalization makes every voxel NaN, and the segmentation is empty
    without a word.

    Args:
        keys: keys of the images.
        allow_missing_keys: whether a key may be missing. Defaults to False.
    """

    def _problem(self, image: Any, items: Mapping[Hashable, Any]) -> str:
        values = convert_to_tensor(image, track_meta=False)
        if not values.numel():
            return f"has no values: its shape is {tuple(values.shape)}; leave it out."
        broken = int((~torch.isfinite(values)).sum())
        return f"has {broken} NaN or infinite values; repair the file or leave it out." if broken else ""


class RequireHounsfieldd(_Requirement):
    """
    Pass scans on as they are, or stop with the file's name where they cannot be in Hounsfield units.

    A window in Hounsfield units, such as -125 to 275, makes nearly one value of a scan that was shifted or normalized.
    Scans of the trunk have air (below -500) and bone (above 100) in them, those of a small field of view may not: for
    inference give the window, and such a scan passes with a warning. Files of ``TransUNetArrayReader`` pass: they are
    cut to a window.

    Args:
        keys: keys of the scans.
        allow_missing_keys: whether a key may be missing. Defaults to False.
        window: lowest and highest value that the network sees. Only scans with no value in it, or none outside, stop
            then. Defaults to None: every scan must have air and bone.
    """

    def __init__(
        self, keys: KeysCollection, allow_missing_keys: bool = False, window: Sequence[float] | None = None
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if window is not None and not (len(window) == 2 and window[0] < window[1]):
            raise ValueError(f"window is {window}, expected a low and a high value.")
        self.window = window

    def _problem(self, image: Any, items: Mapping[Hashable, Any]) -> str:
        if TransUNetArrayReader().verify_suffix(file_of(image)):
            return ""
        scan = convert_to_tensor(image, track_meta=False)
        low, high = scan.aminmax() if scan.numel() else (float("nan"), float("nan"))
        problem = hounsfield_problem(float(low), float(high))
        if problem and self.window is not None:
            inside = (scan >= self.window[0]) & (scan <= self.window[1])
            if inside.any() and not inside.all():
                logger.warning("%s %s, unless it is a part without air or bone", file_of(image), problem)
                return ""
        return f"{problem}." if problem else ""


class RequireLabelsd(_Requirement):
    """
    Pass masks on as they are, or stop with the file's name where a value is no integer from 0 to ``num_classes - 1``,
    nor the label of pixels that do not count.

    A loss or a metric would stop without that name, on a GPU with an error about the device, or not at all.

    Args:
        keys: keys of the masks.
        num_classes: number of classes, background counted.
        allow_missing_keys: whether a key may be missing. Defaults to False.
        ignore_label: value of pixels that count in no loss and no metric, above the classes and at most 65535.
            Defaults to None: there are none.

    Raises:
        ValueError: when ``num_classes`` is below 1, or ``ignore_label`` is another number.
    """

    def __init__(
        self,
        keys: KeysCollection,
        num_classes: int,
        allow_missing_keys: bool = False,
        ignore_label: int | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}, expected at least 1.")
        if ignore_label is not None:
            require_ignore_label(ignore_label, num_classes)
        self.num_classes = num_classes
        self.ignore_label = ignore_label

    def _problem(self, image: Any, items: Mapping[Hashable, Any]) -> str:
        labels = convert_to_tensor(image, track_meta=False)
        # written so that NaN is another value too
        right = (labels >= 0) & (labels < self.num_classes) & (labels == labels.floor())
        wrong = labels[~right if self.ignore_label is None else ~right & (labels != self.ignore_label)]
        if not wrong.numel():
            return ""
        values = torch.unique(wrong)
        text = ", ".join(f"{value:g}" for value in values[:5].tolist()) + (", ..." if len(values) > 5 else "")
        ignored = "" if self.ignore_label is None else f" and {self.ignore_label} for pixels that do not count"
        return (
            f"holds the values {text} in {wrong.numel()} places; expected integers from 0 to {self.num_classes - 1}"
            f"{ignored}. Repair the file, map its values to classes, or give the one that does not count as "
            "ignore_label."
        )


def require_ignore_label(ignore_label: Any, first: int, last: int = 65535) -> None:
    """
    Args:
        ignore_label: label of pixels that do not count.
        first: the lowest number that it may be.
        last: the highest one. Defaults to 65535: labels have at most 16 bits.

    Raises:
        ValueError: when it is no integer from first to last.
    """
    if type(ignore_label) is not int or not first <= ignore_label <= last:
        raise ValueError(
            f"ignore_label is {ignore_label!r}, expected an integer from {first} to {last}, which no class has."
        )


class RequireSameGeometryd(_Requirement):
    """
    Pass an image and its labels on as they are, or stop with the file's name where they do not lie on each other.

    Transforms resize each by itself, so that labels of another size or place are trained on without a word. Corners may
    be off by 0.01 of the smallest side of a voxel, as in ``check_image_and_label``. It belongs right behind
    ``LoadImaged``.

    Args:
        keys: key of the image, and of all that must lie on it, ``(C, *spatial)`` of 2 or 3 spatial axes. Of those
            without an affine (no ``MetaTensor``), only the shapes are compared.
        allow_missing_keys: whether a key may be missing, other than the image's. Defaults to False.

    Raises:
        ValueError: when there are less than 2 keys.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) < 2:
            raise ValueError(f"RequireSameGeometryd needs an image and its labels, got the keys {self.keys}.")

    def _problem(self, image: Any, items: Mapping[Hashable, Any]) -> str:
        reference = items[self.keys[0]]
        problem = shape_problem(reference.shape[1:], image.shape[1:])
        if not problem and isinstance(reference, MetaTensor) and isinstance(image, MetaTensor):
            problem = place_problem(image.shape[1:], _affine(reference), _affine(image))
        return f"{problem}. The image is {file_of(reference, self.keys[0])}; is it another case?" if problem else ""


def _affine(image: MetaTensor) -> np.ndarray:
    return np.asarray(to_affine_nd(3, image.affine.numpy(force=True)))
