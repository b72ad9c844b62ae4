# SPDX-License-Identifier: Apache-2.0
"""What the labels of a training set look like to a network: how small, how fine, how many."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from monai.utils import ensure_tuple_rep
from scipy import ndimage
from torch.nn.functional import interpolate
from tqdm import tqdm

__all__ = ["LabelProfile", "profile_labels"]

# diagonal neighbors belong to one structure, as in MONAI's KeepLargestConnectedComponent
_NEIGHBORS = np.ones((3, 3), dtype=bool)
# sides of pixels that a boundary crosses, over its length, averaged over all directions (Cauchy and Crofton)
_SIDES_TO_LENGTH = math.pi / 4


@dataclass(frozen=True)
class LabelProfile:
    """
    Numbers about the structures in a set of labels, at the size at which the network sees them.

    A structure is a connected part (diagonals included) of one class in one slice. Its diameter is that of a disc of
    the same area.

    Args:
        median_diameter: median diameter of the structures, in pixels of the network's input.
        small_diameter: tenth percentile of the diameters, in pixels: one structure in ten is smaller.
        boundary_per_area: length of all boundaries over the area of all structures, in 1 / pixel; 4 / d for a disc of
            diameter d, 2 / w for a long strip of width w. The border of the image is no boundary.
        num_classes: classes that occur, without the background.
        foreground_share: share of all pixels that belong to a class, in [0, 1].
        image_size: sides of the network's input, in pixels.
        num_slices: slices, or images, that were looked at.
        num_structures: structures that were found.
    """

    median_diameter: float
    small_diameter: float
    boundary_per_area: float
    num_classes: int
    foreground_share: float
    image_size: tuple[int, int]
    num_slices: int
    num_structures: int

    def to_dict(self) -> dict[str, Any]:
        """The numbers as JSON can hold them."""
        return {**asdict(self), "image_size": list(self.image_size)}

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> LabelProfile:
        """
        Build a profile from what :py:meth:`to_dict` gave.

        Raises:
            ValueError: when a number is missing, or one is not of a profile.
        """
        expected = [field.name for field in fields(cls)]
        if sorted(numbers) != sorted(expected):
            raise ValueError(f"a label profile holds {', '.join(expected)}, got {', '.join(numbers)}.")
        return cls(**{**numbers, "image_size": tuple(numbers["image_size"])})

    def __str__(self) -> str:
        return (
            f"{self.num_structures} structures of {self.num_classes} classes in {self.num_slices} slices of "
            f"{' x '.join(map(str, self.image_size))} pixels; diameter {self.median_diameter:.1f} pixels (median), "
            f"{self.small_diameter:.1f} (tenth percentile); boundary per area {self.boundary_per_area:.3f} per pixel; "
            f"{self.foreground_share:.1%} foreground"
        )


def profile_labels(
    data: Sequence[Mapping[str, Any]],
    load: Callable[[Any], Mapping[str, Any]],
    image_size: int | Sequence[int],
    slice_axis: int | None = None,
    progress: bool = True,
) -> LabelProfile:
    """
    Look at every slice of every label of a list of cases.

    Nothing is drawn at random, and the order of the cases does not matter. Each case is read as for training, with its
    image, so that the labels are what the training will see; only one is held in memory at a time.

    Args:
        data: the cases, as MONAI's datasets take them; those of the training.
        load: transform of a case that gives the array ``label``, ``(1, H, W)`` or ``(1, X, Y, Z)`` with whole numbers,
            0 for the background; values between, as of soft masks, are rounded.
        image_size: side or sides of the network's input, in pixels, that slices are resized to.
        slice_axis: axis of the volumes along which they are cut, -3 to -1. Defaults to None: the labels are images.
        progress: whether to show a progress bar. Defaults to True.

    Returns:
        the profile.

    Raises:
        ValueError: when there is no case, a label is not of this shape, or all labels are background.
    """
    if not data:
        raise ValueError("there are no labels to look at: the list of cases is empty; check dataset_dir and split.")
    height, width = size = ensure_tuple_rep(image_size, 2)
    found = _Structures()
    for item in tqdm(data, desc="Looking at labels", disable=not progress):
        for mask in _slices(load(item)["label"], slice_axis):
            found.add(_resize(mask, size))
    if not found.areas:
        raise ValueError(f"all labels of the {len(data)} cases are 0; are these the right label files?")
    areas = np.sort(np.fromiter(found.areas.elements(), dtype=np.int64))
    diameters = np.sqrt(areas * (4 / math.pi))
    return LabelProfile(
        median_diameter=float(np.percentile(diameters, 50)),
        small_diameter=float(np.percentile(diameters, 10)),
        boundary_per_area=float(found.sides * _SIDES_TO_LENGTH / areas.sum()),
        num_classes=len(found.classes),
        foreground_share=float(areas.sum() / (found.num_slices * height * width)),
        image_size=(height, width),
        num_slices=found.num_slices,
        num_structures=len(areas),
    )


class _Structures:
    """Sums over slices, all of whole numbers, so that no order of the slices changes them."""

    def __init__(self) -> None:
        self.areas: Counter[int] = Counter()  # area in pixels -> number of structures
        self.sides = 0  # sides of pixels between a class and anything else
        self.classes: set[int] = set()
        self.num_slices = 0

    def add(self, mask: np.ndarray) -> None:
        self.num_slices += 1
        for value in np.unique(mask[mask > 0]):
            self.classes.add(int(value))
            inside = mask == value
            self.sides += sum(int(np.count_nonzero(np.diff(inside, axis=axis))) for axis in (0, 1))
            parts, _ = ndimage.label(inside, _NEIGHBORS)
            self.areas.update(np.bincount(parts.ravel())[1:].tolist())


def _slices(label: Any, slice_axis: int | None) -> Sequence[torch.Tensor]:
    label = torch.as_tensor(label)
    expected = 3 if slice_axis is None else 4
    if label.ndim != expected or label.shape[0] != 1:
        form = "(1, H, W)" if slice_axis is None else "(1, X, Y, Z)"
        raise ValueError(f"a label of shape {tuple(label.shape)} must be {form}; check the transforms that load it.")
    return [label] if slice_axis is None else label.unbind(slice_axis)


def _resize(mask: torch.Tensor, size: Sequence[int]) -> np.ndarray:
    """One slice, ``(1, H, W)``, as the bundles' Resized gives it to the training, ``(height, width)``."""
    resized = interpolate(mask[None].float(), size=tuple(size), mode="nearest")[0, 0]
    return resized.round().to(torch.int64).numpy()
