# SPDX-License-Identifier: Apache-2.0
"""What the deterministic transforms give, kept small in memory, and random transforms that can be repeated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from monai.data import CacheDataset, MetaTensor
from monai.transforms import Compose, Transform
from monai.transforms.traits import MultiSampleTrait, RandomizableTrait
from tqdm import tqdm

from .sampling import seeded_transform, take_shard

__all__ = ["CaseCacheDataset", "SeededCacheDataset"]


def load_all(load: Callable[[int], Any], numbers: Sequence[int], num_workers: int | None, progress: bool) -> list[Any]:
    """
    Load what data sets keep in memory. When one fails, the others have ended before the error goes on: a thread of
    MONAI's pool that still works while the interpreter ends aborts the process.

    Args:
        load: what loads the one of a number.
        numbers: the numbers.
        num_workers: number of threads; None for as many as Python chooses.
        progress: whether to show a progress bar.

    Returns:
        what was loaded, in the order of the numbers.
    """
    executor = ThreadPoolExecutor(num_workers if num_workers is None else max(num_workers, 1))
    try:
        loaded = executor.map(load, numbers)
        return list(tqdm(loaded, desc="Loading dataset", total=len(numbers), disable=not progress))
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


class CaseCacheDataset(CacheDataset):
    """
    ``monai.data.CacheDataset``, with the same arguments, which stops cleanly when a case cannot be loaded: with that
    error, and after its threads have ended.
    """

    def _fill_cache(self, indices: Sequence[int] | None = None) -> list[Any]:
        numbers = range(self.cache_num) if indices is None else indices
        return load_all(self._load_cache_item, numbers, self.num_workers, self.progress)


class SeededCacheDataset(CaseCacheDataset):
    """
    ``monai.data.CacheDataset``, with the same arguments, for training with ``EpochSampler``.

    What the transforms before the first random one give is kept in memory: resize large photographs there. It is kept
    without metadata and in the size and data type that it has then, but as uint8 where that holds all values exactly,
    as it does for labels. A ``Compose`` among the transforms counts as the transforms in it; MONAI takes it for a
    random one, and would cache nothing from there on. Random transforms get copies, and items are plain tensors.

    Items that the sampler asks for are the same with any number of worker processes and after a resumed run: their
    random transforms, which derive from ``monai.transforms.Randomizable`` or draw from PyTorch's generator, start from
    the seed that the sampler gives for the item and the epoch. Items asked for by a plain number are random as in
    MONAI.

    With ``cache_rate`` 1 all files are read when the data set is built, and a bad one stops the run there; below 1 the
    others are read when their turn comes, and 0 keeps nothing.

    With ``shard=True`` each process of a run reads and keeps its share of the items alone, see ``take_shard``, so that
    they take their memory once and not in every process; an epoch then mixes the items of a process among themselves.
    """

    def __init__(
        self,
        data: Sequence,
        transform: Sequence[Callable] | Callable | None = None,
        shard: bool = False,
        **options: Any,
    ) -> None:
        deterministic, random = split_transform(transform)
        self.random_transform = random  # the first attribute, since MONAI's loader seeds them in their order
        self.shard, self.undivided = shard, data
        super().__init__(take_shard(data) if shard else data, deterministic, **options)

    def __getitem__(self, index: int | slice | Sequence[int]) -> Any:
        """The item of that number; a subset for a slice or a sequence of numbers."""
        with seeded_transform(self.random_transform, index):
            return super().__getitem__(index)

    def _load_cache_item(self, idx: int) -> Any:
        return pack(super()._load_cache_item(idx))

    def _transform(self, index: int) -> Any:
        return run_plain(self.random_transform, unpack(super()._transform(index)))


@dataclass
class Packed:
    """
    A tensor whose values fit into bytes.

    Args:
        values: the values, uint8.
        dtype: the data type that it had.
    """

    values: torch.Tensor
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return self.values.nbytes

    def __getitem__(self, index: Any) -> Packed:
        return Packed(self.values[index], self.dtype)


def pack(item: Any) -> Any:
    """
    Make an item small: tensors without metadata, and ``Packed`` where uint8 holds all their values exactly.

    Args:
        item: a tensor, or any value; in dictionaries, lists and tuples what they hold.

    Returns:
        the same with other tensors.
    """
    return _map(item, lambda value: _pack_tensor(value) if isinstance(value, torch.Tensor) else value)


def unpack(item: Any) -> Any:
    """
    Undo ``pack``.

    Args:
        item: as in ``pack``.

    Returns:
        a copy, with plain, contiguous tensors of their own data type.
    """
    return _map(item, _unpack_value)


def split_transform(transform: Sequence[Callable] | Callable | None) -> tuple[Compose, Compose]:
    """
    Part transforms where MONAI's ``CacheDataset`` does: in front of the first that is random, that gives several items
    or that is no MONAI transform.

    Args:
        transform: the transforms; a ``Compose`` among them counts as the transforms in it.

    Returns:
        the deterministic ones in front, and the others.
    """
    whole = (transform if type(transform) is Compose else Compose(transform)).flatten()
    end = whole.get_index_of_first(
        lambda one: isinstance(one, (RandomizableTrait, MultiSampleTrait)) or not isinstance(one, Transform)
    )
    end = len(whole) if end is None else end
    front, rest = copy(whole), copy(whole)
    front.transforms, rest.transforms = whole.transforms[:end], whole.transforms[end:]
    return front, rest


def run_plain(transform: Compose, item: Any, threading: bool = False) -> Any:
    """
    Transform an item of plain tensors into one of plain tensors.

    Args:
        transform: the transforms.
        item: what they take.
        threading: whether other threads may run the same transforms. Defaults to False.

    Returns:
        what they give, without metadata.
    """
    return _map(
        transform(item, threading=threading),
        lambda value: value.as_tensor() if isinstance(value, MetaTensor) else value,
    )


def _map(item: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(item, dict):
        return {key: _map(value, change) for key, value in item.items()}
    if type(item) in (list, tuple):
        return type(item)(_map(value, change) for value in item)
    return change(item)


def _pack_tensor(tensor: torch.Tensor) -> torch.Tensor | Packed:
    tensor = tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
    if tensor.numel() == 0 or tensor.itemsize == 1 or tensor.is_complex() or tensor.max() > 255 or tensor.min() < 0:
        return tensor.contiguous()
    values = tensor.to(torch.uint8, memory_format=torch.contiguous_format)
    # not equal for fractions and NaN; a bit tells -0.0 from 0.0
    exact = torch.equal(values.to(tensor.dtype), tensor) and not torch.signbit(tensor).any()
    return Packed(values, tensor.dtype) if exact else tensor.contiguous()


def _unpack_value(value: Any) -> Any:
    if isinstance(value, Packed):
        return value.values.to(value.dtype)
    if isinstance(value, torch.Tensor):
        plain = value.as_tensor() if isinstance(value, MetaTensor) else value
        return plain.clone(memory_format=torch.contiguous_format)
    return deepcopy(value)
