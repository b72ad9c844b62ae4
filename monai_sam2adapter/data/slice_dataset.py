# SPDX-License-Identifier: Apache-2.0
"""Training on the slices of volumes that are read once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, Dataset
from monai.transforms import Compose, Transform
from monai.transforms.traits import RandomizableTrait
from monai.utils import convert_to_tensor
from tqdm import tqdm

from .neighbors import slices_with_neighbors
from .seeded_index import seeded_transform

__all__ = ["VolumeSliceDataset"]

logger = logging.getLogger(__name__)


class VolumeSliceDataset(Dataset):
    """
    The slices of a list of volumes, so that a shuffling loader mixes slices of all of them in every batch.

    Each volume goes once through ``volume_transform`` and stays in memory, in MONAI's ``CacheDataset``. An item is one
    slice of every array of a volume, a plain tensor with memory of its own: the volume's affine and its history of
    transforms do not hold for a slice. Strings and numbers of the volume are kept; ``slice_index`` is added. Then
    ``transform`` runs on the slice. With ``EpochSampler`` its random state depends on seed, epoch and slice alone;
    else ``monai.data.DataLoader`` sets it as for every MONAI dataset.

    Slices of volumes of different size are of different size: ``transform`` has to end in one size for a batch.

    Memory: arrays are kept in the data type that ``volume_transform`` ends in. ``LoadImaged`` makes float32 of every
    file unless told otherwise, 4 bytes a voxel for image and label each. For CT let it load int16, cast labels to
    uint8, and leave the window of intensities to ``transform``: that is 3 bytes instead of 8. Worker processes share
    this memory. Where they are not forked (macOS, Windows), it goes through the system's shared memory, which has to
    have room for it.

    Args:
        data: one dictionary a volume, as ``volume_transform`` takes it; kept as the attribute ``data``.
        volume_transform: deterministic transforms of a volume, from reading the file to channel-first arrays
            ``(C, H, W, D)``.
        transform: transforms of a slice, mostly random, on arrays ``(C, H, W)``. Defaults to none.
        cache_rate: part of the volumes to keep in memory, 0 to 1. Each slice of the others reads its whole volume
            again. Defaults to 1.
        num_workers: threads that fill the cache; all cores when None. Defaults to 1.
        progress: whether to show a progress bar while the volumes are read. Defaults to True.
        slice_axis: spatial axis that is cut into slices, -3 to 2. Defaults to -1, the last one.
        num_neighbors: slices on each side, k, that become channels of every array but the label: ``(2k + 1) * C``
            channels from the first slice before to the last one behind, the outermost slice of the volume standing in
            for those beyond it. The label is that of the middle slice. Defaults to 0.
        foreground_only: whether to leave out slices whose label is 0 everywhere. A volume without any other slice is
            left out with a warning. Defaults to False.
        label_key: name of the array that is the label. Defaults to ``label``.

    Raises:
        ValueError: when there is no volume, ``volume_transform`` is random, ``slice_axis`` is not a spatial axis,
            ``num_neighbors`` is negative, a volume has no array, an array is not of shape ``(C, H, W, D)``, the arrays
            of a volume differ in their number of slices, or ``foreground_only`` finds a volume without label or no
            foreground at all.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        volume_transform: Sequence[Callable] | Callable,
        transform: Sequence[Callable] | Callable | None = None,
        cache_rate: float = 1.0,
        num_workers: int | None = 1,
        progress: bool = True,
        slice_axis: int = -1,
        num_neighbors: int = 0,
        foreground_only: bool = False,
        label_key: str = "label",
    ) -> None:
        if not data:
            raise ValueError("got no volume; data must list at least one")
        if not -3 <= slice_axis <= 2:
            raise ValueError(f"slice_axis must be one of the three spatial axes, -3 to 2, got {slice_axis}")
        if num_neighbors < 0:
            raise ValueError(f"num_neighbors must be 0 or more slices on each side, got {num_neighbors}")
        _check_deterministic(volume_transform)
        super().__init__(data=data, transform=transform)
        self.slice_axis = slice_axis
        self._axis = 1 + slice_axis % 3  # of (C, H, W, D)
        self.num_neighbors = num_neighbors
        self.foreground_only = foreground_only
        self.label_key = label_key
        self._volumes = CacheDataset(
            data, _ReadVolume(volume_transform), cache_rate=cache_rate, num_workers=num_workers, progress=progress
        )
        # volumes outside the cache are read here for the number of their slices: the transform may change it
        indices = tqdm(range(len(data)), desc="Counting slices", disable=not progress or cache_rate == 1)
        self._slices = [(volume, k) for volume in indices for k in self._find_slices(volume)]
        if foreground_only:
            self._check_foreground()

    def __len__(self) -> int:
        """Number of slices of all volumes."""
        return len(self._slices)

    def __getitem__(self, index: int | slice | Sequence[int]) -> Any:
        """The slice of that number, in the order of the volumes; a subset for a Python slice or a sequence."""
        with seeded_transform(self.transform, index):
            return super().__getitem__(index)

    def _transform(self, index: int) -> Any:
        """``Dataset.__getitem__`` calls this."""
        volume, k = self._slices[index]
        item: dict[str, Any] = {"slice_index": k}
        for key, value in self._volumes[volume].items():
            if isinstance(value, torch.Tensor):
                slices = value.movedim(self._axis, 0)
                # a copy, or a transform that works in place would change the cached volume
                num_neighbors = 0 if key == self.label_key else self.num_neighbors
                value = slices_with_neighbors(slices, k, k + 1, num_neighbors)[0].contiguous()
            item[key] = value
        return self.transform(item)

    def _find_slices(self, volume: int) -> list[int]:
        """Numbers of the slices of a volume that count, after a check of its arrays."""
        item = self._volumes[volume]
        shapes = {key: tuple(value.shape) for key, value in item.items() if isinstance(value, torch.Tensor)}
        what = f"volume {volume} ({self.data[volume]})"
        if not shapes:
            raise ValueError(f"{what} has no array after volume_transform, only {sorted(item)}; load one")
        if any(len(shape) != 4 for shape in shapes.values()):
            raise ValueError(f"{what} has arrays of shape {shapes} after volume_transform; expected (C, H, W, D)")
        counts = {shape[self._axis] for shape in shapes.values()}
        if len(counts) > 1:
            raise ValueError(
                f"the arrays of {what} differ along the axis {self._axis}: {shapes}; is one of another volume?"
            )
        if not self.foreground_only:
            return list(range(counts.pop()))
        if self.label_key not in shapes:
            raise ValueError(f"{what} has no array {self.label_key!r} to find foreground in, only {sorted(shapes)}")
        return [k for k, label in enumerate(item[self.label_key].unbind(self._axis)) if label.any()]

    def _check_foreground(self) -> None:
        found = {volume for volume, _ in self._slices}
        empty = [str(self.data[volume]) for volume in range(len(self.data)) if volume not in found]
        if not found:
            raise ValueError(f"all labels of the {len(empty)} volumes are 0; are these the right label files?")
        if empty:
            logger.warning(
                "%d of %d volumes hold no foreground and are left out: %s", len(empty), len(self.data), "; ".join(empty)
            )


class _ReadVolume(Transform):
    """
    The transforms of a volume as one, or the cache would end at the first plain function among them; and of its result
    what slices need: arrays without metadata, strings and numbers.
    """

    def __init__(self, transform: Sequence[Callable] | Callable) -> None:
        self.transform = Compose(transform)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        item: dict[str, Any] = {}
        for key, value in self.transform(data).items():
            if isinstance(value, (torch.Tensor, np.ndarray)):
                item[key] = convert_to_tensor(value, track_meta=False)
            elif isinstance(value, (str, int, float)):
                item[key] = value
        return item


def _check_deterministic(volume_transform: Sequence[Callable] | Callable) -> None:
    random = [
        type(transform).__name__
        for transform in Compose(volume_transform).flatten().transforms
        if isinstance(transform, RandomizableTrait)
    ]
    if random:
        raise ValueError(
            f"volume_transform must be deterministic, since its result is kept, but holds {', '.join(random)}; "
            f"move them to transform"
        )
