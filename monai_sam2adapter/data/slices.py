# SPDX-License-Identifier: Apache-2.0
"""Training on the slices of volumes that are read once, with their neighbors as channels (2.5D) if asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import Dataset
from monai.transforms import Compose
from monai.transforms.traits import RandomizableTrait
from monai.utils import convert_to_tensor
from tqdm import tqdm

from ..utils.logs import escaping_logger
from .caching import Packed, load_all, pack, run_plain, split_transform, unpack
from .sampling import seeded_transform, take_shard

__all__ = ["VolumeSliceDataset", "slices_with_neighbors"]

logger = escaping_logger(__name__)


class VolumeSliceDataset(Dataset):
    """
    The slices of a list of volumes, so that a shuffling loader mixes slices of all of them in every batch.

    Each volume goes once through ``volume_transform``, and each of its slices once through the deterministic
    transforms in front of the first random one in ``transform``; what they give stays in memory. The others run each
    time that an item is asked for. With ``EpochSampler`` their random state depends on seed, epoch and slice alone;
    else ``monai.data.DataLoader`` sets it as for every MONAI dataset.

    An item is one slice of every array of a volume, a plain tensor with memory of its own, before and behind
    ``transform``: the volume's affine and its history of transforms do not hold for a slice. Strings and numbers of
    the volume are kept; ``slice_index`` is added. Slices of volumes of different size are of different size:
    ``transform`` has to end in one size for a batch.

    Memory: never more than the arrays that ``volume_transform`` ends in, in their data type. Where the transforms of
    the slices would make more of them, as a resize to a size above that of the volume does, the arrays are kept and
    these transforms run each time. Arrays of whole numbers from 0 to 255, as labels are, take one byte a voxel and
    come back in their own data type. ``LoadImaged`` makes float32 of every file unless told otherwise, 4 bytes a
    voxel: for CT let it load int16, and leave the window of intensities to ``transform``. Worker processes share this
    memory. Where they are not forked (macOS, Windows), it goes through the system's shared memory, which has to have
    room for it.

    Args:
        data: one dictionary a volume, as ``volume_transform`` takes it; kept as the attribute ``data``.
        volume_transform: deterministic transforms of a volume, from reading the file to channel-first arrays
            ``(C, H, W, D)``.
        transform: transforms of a slice, arrays ``(C, H, W)``: deterministic ones, then random ones. Defaults to none.
        cache_rate: part of the volumes to keep in memory, 0 to 1. Each slice of the others reads its whole volume
            again. Defaults to 1.
        num_workers: threads that fill the cache; all cores when None. Defaults to 1.
        progress: whether to show a progress bar while the volumes are read. Defaults to True.
        slice_axis: spatial axis that is cut into slices, -3 to 2. Defaults to -1, the last one.
        num_neighbors: slices on each side, k, that become channels of every array but the label: ``(2k + 1) * C``
            channels from the first slice before to the last one behind, the outermost slice of the volume standing in
            for those beyond it. The deterministic transforms see one slice at a time, the random ones all channels.
            The label is that of the middle slice. Defaults to 0.
        foreground_only: whether to leave out slices whose label in the volume is 0 everywhere. A volume without any
            other slice is left out with a warning. Defaults to False.
        label_key: name of the array that is the label. Defaults to ``label``.
        shard: whether each process of a run reads and keeps its share of the volumes alone, see ``take_shard``: they
            take their memory once and not in every process, and an epoch mixes the slices of a process among
            themselves. Defaults to False.

    Raises:
        ValueError: when there is no volume, or with ``shard`` not one for each process, ``volume_transform`` is random,
            ``slice_axis`` is not a spatial axis, ``num_neighbors`` is negative, a volume has no array, an array is not
            of shape ``(C, H, W, D)``, the arrays of a volume differ in their number of slices, or ``foreground_only``
            finds a volume without label or no foreground at all.
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
        shard: bool = False,
    ) -> None:
        if not data:
            raise ValueError("got no volume; data must list at least one")
        if not -3 <= slice_axis <= 2:
            raise ValueError(f"slice_axis must be one of the three spatial axes, -3 to 2, got {slice_axis}")
        if num_neighbors < 0:
            raise ValueError(f"num_neighbors must be 0 or more slices on each side, got {num_neighbors}")
        _check_deterministic(volume_transform)
        deterministic, random = split_transform(transform)
        self.shard, self.undivided = shard, data
        data = take_shard(data) if shard else data
        super().__init__(data=data, transform=random)
        self.deterministic_transform = deterministic
        self.volume_transform = Compose(volume_transform)
        self.slice_axis = slice_axis
        self._axis = 1 + slice_axis % 3  # of (C, H, W, D)
        self.num_neighbors = num_neighbors
        self.foreground_only = foreground_only
        self.label_key = label_key
        cached = range(min(int(cache_rate * len(data)), len(data)))
        self._cache = load_all(self._load, cached, num_workers, progress)
        # volumes outside the cache are read here for the number of their slices: the transform may change it
        others = tqdm(range(len(cached), len(data)), desc="Counting slices", disable=not progress or cache_rate == 1)
        kept = [volume.kept for volume in self._cache] + [self._read(number).kept for number in others]
        self._slices = [(number, k) for number, slices in enumerate(kept) for k in slices]
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
        number, k = self._slices[index]
        volume = self._cache[number] if number < len(self._cache) else self._read(number)
        return run_plain(self.transform, self._with_neighbors(volume, k))

    def _with_neighbors(self, volume: _Volume, k: int) -> dict[str, Any]:
        item = self._prepare(volume, k)
        if self.num_neighbors:
            last, reach = len(volume.values) - 1, range(-self.num_neighbors, self.num_neighbors + 1)
            items = [item if d == 0 else self._prepare(volume, min(max(k + d, 0), last)) for d in reach]
            for key in [key for key, value in item.items() if isinstance(value, torch.Tensor) and value.ndim == 3]:
                if key != self.label_key:
                    item[key] = torch.cat([one[key] for one in items])
        return item

    def _prepare(self, volume: _Volume, k: int) -> dict[str, Any]:
        """One slice as it is behind the deterministic transforms, a copy."""
        item = volume.take(k)
        return item if volume.is_prepared else run_plain(self.deterministic_transform, item, threading=True)

    def _load(self, number: int) -> _Volume:
        """A volume as it is kept in memory: its slices behind the deterministic transforms, or its own arrays."""
        volume = self._read(number)
        prepared = self._prepare_all(volume) if len(self.deterministic_transform) else None
        return prepared or _Volume(pack(volume.arrays), volume.values, volume.kept)

    def _prepare_all(self, volume: _Volume) -> _Volume | None:
        """None where that takes more memory than the volume, or arrays of different size."""
        count = len(volume.values)
        # from the middle, where there is most, to give up soon
        if not count or count * _count_bytes(pack(self._prepare(volume, count // 2))) > _count_bytes(volume.arrays):
            return None
        items = [self._prepare(volume, k) for k in range(count)]
        keys = [key for key, value in items[0].items() if isinstance(value, torch.Tensor)]
        forms = {tuple((key, getattr(item.get(key), "shape", 0), item[key].dtype) for key in keys) for item in items}
        if len(forms) > 1:
            return None
        arrays = {key: pack(torch.stack([item.pop(key) for item in items])) for key in keys}
        if _count_bytes(arrays) > _count_bytes(volume.arrays):
            return None
        return _Volume(arrays, items, volume.kept, is_prepared=True)

    def _read(self, number: int) -> _Volume:
        """A volume behind ``volume_transform``, after a check of its arrays."""
        item = self.volume_transform(self.data[number], threading=True)
        arrays = {
            key: convert_to_tensor(value, track_meta=False)
            for key, value in item.items()
            if isinstance(value, (torch.Tensor, np.ndarray))
        }
        values = {key: value for key, value in item.items() if isinstance(value, (str, int, float))}
        shapes = {key: tuple(array.shape) for key, array in arrays.items()}
        what = f"volume {number} ({self.data[number]})"
        if not shapes:
            raise ValueError(f"{what} has no array after volume_transform, only {sorted(values)}; load one")
        if any(len(shape) != 4 for shape in shapes.values()):
            raise ValueError(f"{what} has arrays of shape {shapes} after volume_transform; expected (C, H, W, D)")
        counts = {shape[self._axis] for shape in shapes.values()}
        if len(counts) > 1:
            raise ValueError(
                f"the arrays of {what} differ along the axis {self._axis}: {shapes}; is one of another volume?"
            )
        # (C, H, W, D) -> (S, C, h, w)
        arrays = {key: array.movedim(self._axis, 0) for key, array in arrays.items()}
        kept = range(counts.pop())
        slices = [{"slice_index": k, **values} for k in kept]
        if not self.foreground_only:
            return _Volume(arrays, slices, list(kept))
        if self.label_key not in arrays:
            raise ValueError(f"{what} has no array {self.label_key!r} to find foreground in, only {sorted(shapes)}")
        return _Volume(arrays, slices, [k for k in kept if arrays[self.label_key][k].any()])

    def _check_foreground(self) -> None:
        found = {number for number, _ in self._slices}
        empty = [str(self.data[number]) for number in range(len(self.data)) if number not in found]
        if not found:
            advice = "; let each process keep all volumes (--shard_cache False)" if self.shard else ""
            raise ValueError(f"all labels of the {len(empty)} volumes are 0; are these the right label files?{advice}")
        if empty:
            logger.warning(
                "%d of %d volumes hold no foreground and are left out: %s", len(empty), len(self.data), "; ".join(empty)
            )


@dataclass
class _Volume:
    """
    The slices of a volume.

    Args:
        arrays: for every array its slices, ``(S, C, h, w)``.
        values: for every slice its strings and numbers.
        kept: numbers of the slices that are items.
        is_prepared: whether the slices are behind the deterministic transforms. Defaults to False.
    """

    arrays: Mapping[str, torch.Tensor | Packed]
    values: list[dict[str, Any]]
    kept: list[int]
    is_prepared: bool = False

    def take(self, k: int) -> dict[str, Any]:
        """A copy of one slice."""
        return unpack({**self.values[k], **{key: array[k] for key, array in self.arrays.items()}})


def slices_with_neighbors(slices: torch.Tensor, start: int, stop: int, num_neighbors: int = 0) -> torch.Tensor:
    """
    Take slices out of a volume, each with the ones before and behind it as channels.

    Channels are in the order of the slices, from the first neighbor before to the last one behind; where a slice has
    several channels, they stay together. The first and the last slice of the volume stand in for neighbors beyond it.

    Args:
        slices: all slices of a volume, ``(S, C, h, w)``.
        start: first slice to take, from 0.
        stop: slice to stop in front of, ``start < stop <= S``.
        num_neighbors: neighbors on each side, k. Defaults to 0.

    Returns:
        a copy, ``(stop - start, (2k + 1) * C, h, w)``.
    """
    offsets = torch.arange(-num_neighbors, num_neighbors + 1, device=slices.device)
    middle = torch.arange(start, stop, device=slices.device)
    numbers = (middle[:, None] + offsets).clamp(0, len(slices) - 1)
    return slices[numbers].flatten(1, 2)  # (N, 2k + 1, C, h, w) -> (N, (2k + 1) * C, h, w)


def _count_bytes(item: Mapping[str, Any]) -> int:
    return sum(value.nbytes for value in item.values() if isinstance(value, (torch.Tensor, Packed)))


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
