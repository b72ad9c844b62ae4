# SPDX-License-Identifier: Apache-2.0
"""Training on the slices of volumes that are read once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, Dataset
from monai.transforms import Compose
from monai.transforms.traits import RandomizableTrait
from monai.utils import convert_to_tensor
from tqdm import tqdm

__all__ = ["VolumeSliceDataset"]


class VolumeSliceDataset(Dataset):
    """
    The slices of a list of volumes, so that a shuffling loader mixes slices of all of them in every batch.

    Each volume goes once through ``volume_transform`` and stays in memory, in MONAI's ``CacheDataset``. An item is one
    slice of every array of a volume, a plain tensor with memory of its own: the volume's affine and its history of
    transforms do not hold for a slice. Strings and numbers of the volume are kept; ``slice_index`` is added. Then
    ``transform`` runs on the slice. Its random state is set by ``monai.data.DataLoader`` as for every MONAI dataset.

    Slices of volumes of different size are of different size: ``transform`` has to end in one size for a batch.

    Args:
        data: one dictionary a volume, as ``volume_transform`` takes it; kept as the attribute ``data``.
        volume_transform: deterministic transforms of a volume, from reading the file to channel-first arrays
            ``(C, H, W, D)``.
        transform: transforms of a slice, mostly random, on arrays ``(C, H, W)``. Defaults to none.
        cache_rate: part of the volumes to keep in memory, 0 to 1. Each slice of the others reads its whole volume
            again. Defaults to 1.
        num_workers: threads that fill the cache; all cores when None. Defaults to 1.
        progress: whether to show a progress bar while the volumes are read. Defaults to True.
        slice_axis: axis of ``(C, H, W, D)`` along which to slice, not the first one. Defaults to -1, the last.

    Raises:
        ValueError: when there is no volume, ``volume_transform`` is random, ``slice_axis`` is not a spatial axis, a
            volume has no array, an array is not of shape ``(C, H, W, D)``, or the arrays of a volume differ in their
            number of slices.
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
    ) -> None:
        if not data:
            raise ValueError("got no volume; data must list at least one")
        if slice_axis not in (1, 2, 3, -1, -2, -3):
            raise ValueError(
                f"slice_axis {slice_axis} is not a spatial axis of (C, H, W, D): take 1, 2, 3 or -1, -2, -3"
            )
        _check_deterministic(volume_transform)
        super().__init__(data=data, transform=transform)
        self.slice_axis = slice_axis
        self._volumes = CacheDataset(
            data, volume_transform, cache_rate=cache_rate, num_workers=num_workers, progress=progress
        )
        # volumes outside the cache are read here for the number of their slices: the transform may change it
        indices = tqdm(range(len(data)), desc="Counting slices", disable=not progress or cache_rate == 1)
        self._slices = [(volume, k) for volume in indices for k in range(self._count_slices(volume))]

    def __len__(self) -> int:
        """Number of slices of all volumes."""
        return len(self._slices)

    def _transform(self, index: int) -> Any:
        """The slice of that number, in the order of the volumes; ``Dataset.__getitem__`` calls this."""
        volume, k = self._slices[index]
        item: dict[str, Any] = {"slice_index": k}
        for key, value in self._volumes[volume].items():
            if isinstance(value, (torch.Tensor, np.ndarray)):
                # a copy, or a transform that works in place would change the cached volume
                plain = convert_to_tensor(value, track_meta=False)
                item[key] = plain.select(self.slice_axis, k).clone(memory_format=torch.contiguous_format)
            elif isinstance(value, (str, int, float)):
                item[key] = value
        return self.transform(item)

    def _count_slices(self, volume: int) -> int:
        item = self._volumes[volume]
        shapes = {
            key: tuple(value.shape) for key, value in item.items() if isinstance(value, (torch.Tensor, np.ndarray))
        }
        what = f"volume {volume} ({self.data[volume]})"
        if not shapes:
            raise ValueError(f"{what} has no array after volume_transform, only {sorted(item)}; load one")
        if any(len(shape) != 4 for shape in shapes.values()):
            raise ValueError(f"{what} has arrays of shape {shapes} after volume_transform; expected (C, H, W, D)")
        counts = {shape[self.slice_axis] for shape in shapes.values()}
        if len(counts) > 1:
            raise ValueError(
                f"the arrays of {what} differ along the axis {self.slice_axis}: {shapes}; is one of another volume?"
            )
        return counts.pop()


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
