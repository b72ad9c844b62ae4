# SPDX-License-Identifier: Apache-2.0
"""The order of a data set in each epoch, and random numbers that depend on the item that is asked for alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
import torch.distributed as dist
from monai.data import partition_dataset
from monai.transforms import Compose
from torch.utils.data import DistributedSampler

__all__ = ["EpochSampler", "SeededIndex", "derive_seed", "seeded_transform", "take_shard"]


class SeededIndex(int):
    """
    The number of an item of a data set, with the seed of its random transforms.

    ``EpochSampler`` gives it out. To a data set that knows nothing of it, it is the plain number.

    Args:
        index: number of the item.
        seed: seed of its random transforms, 0 to 2**32 - 1; kept as the attribute ``seed``.
    """

    seed: int

    def __new__(cls, index: int, seed: int) -> SeededIndex:
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override]
        """What a worker process makes its copy from."""
        return int(self), self.seed


def derive_seed(*numbers: int) -> int:
    """
    Mix numbers into one seed. Neighboring numbers give unrelated seeds, the same numbers always the same one.

    Args:
        numbers: whole numbers from 0, such as a run's seed, an epoch and the number of an item; their order counts.

    Returns:
        seed for any generator, 0 to 2**32 - 1.

    Raises:
        ValueError: when one of the numbers is negative or not whole.
    """
    if any(not isinstance(number, (int, np.integer)) or number < 0 for number in numbers):
        raise ValueError(f"a seed is made from whole numbers from 0, got {numbers}; give a seed like 0 or 42")
    return int(np.random.SeedSequence([int(number) for number in numbers]).generate_state(1)[0])


@contextmanager
def seeded_transform(transform: Compose, index: object) -> Iterator[None]:
    """
    Seed random transforms, and the CPU generator of PyTorch that torchvision's draw from, for one item.

    PyTorch's generator is put back in its state: a network's dropout in the same process does not notice.

    Args:
        transform: transforms, whose random ones derive from ``monai.transforms.Randomizable``.
        index: what the item was asked for with; unless it is a ``SeededIndex``, nothing is seeded.
    """
    if not isinstance(index, SeededIndex):
        yield
        return
    transform.set_random_state(seed=index.seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(index.seed)  # torch.manual_seed would reach the GPU's generators too
        yield


def take_shard(data: Sequence[Any]) -> list[Any]:
    """
    Take the cases that this process reads and keeps, where the processes of a run share them out.

    They are mixed first, the same way in every process and run: neighbors in a list are often frames of one patient.

    Args:
        data: all cases, the same in every process.

    Returns:
        those of this process: of N cases and P processes at least N // P; all without other processes.

    Raises:
        ValueError: when there are fewer cases than processes.
    """
    processes = idist.get_world_size()
    if len(data) < processes:
        raise ValueError(
            f"{len(data)} cases cannot be shared out to {processes} processes, each of which keeps at least one: start "
            "fewer processes, or let each keep all cases (--shard_cache False)"
        )
    if processes == 1:
        return list(data)
    return partition_dataset(data, num_partitions=processes, shuffle=True, seed=0)[idist.get_rank()]


class EpochSampler(DistributedSampler):
    """
    An order of items, and random transforms for each, that depend on seed and epoch alone.

    With ``SeededCacheDataset`` or ``VolumeSliceDataset`` an epoch is the same with any number of worker processes, and
    in a run that was resumed. MONAI's trainers call ``set_epoch`` when an epoch starts; a loop of one's own has to
    call it, or all epochs are alike, in their augmentation too. ``epoch_length`` of the trainer has to stay at its
    default, the length of the loader, for epochs to begin where the sampler's do.

    With several processes each takes its share, and the first items are taken twice where the number of items does
    not divide by that of processes, as ``torch.utils.data.DistributedSampler`` does. With one process it needs no
    process group. A data set built with ``shard=True`` holds its process's share already: all of it is drawn from, as
    many items in each process as would be there in equal shares, so that who has fewer takes some twice.

    Args:
        dataset: data set to draw from; only its length is asked for.
        num_replicas: number of processes. Defaults to that of the process group, or 1 without one.
        rank: number of this process. Defaults to that in the process group, or 0 without one.
        shuffle: whether each epoch has an order of its own. Defaults to True.
        seed: seed of the run, from 0, the same in all processes. Defaults to 0.
        drop_last: whether to leave out items, rather than to take some twice, for equal shares. Defaults to False.

    Raises:
        ValueError: when ``seed`` is negative or not a whole number, or ``rank`` is not below ``num_replicas``.

    Example:
        >>> from monai_sam2adapter.data import EpochSampler
        >>> sampler = EpochSampler(range(4), seed=3)
        >>> sampler.set_epoch(1)
        >>> sorted(sampler)
        [0, 1, 2, 3]
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        derive_seed(seed)  # checks it
        in_group = dist.is_available() and dist.is_initialized()
        if num_replicas is None:
            num_replicas = dist.get_world_size() if in_group else 1
        if rank is None:
            rank = dist.get_rank() if in_group else 0
        self.is_sharded = getattr(dataset, "shard", False) and num_replicas > 1
        super().__init__(dataset, num_replicas, rank, shuffle, seed, drop_last)  # type: ignore[arg-type]
        if self.is_sharded:
            count = idist.all_reduce(len(dataset)) / num_replicas
            self.num_samples = math.floor(count) if drop_last else math.ceil(count)

    def __iter__(self) -> Iterator[SeededIndex]:
        """Numbers of the items of this process in this epoch, with their seeds."""
        numbers = (self.epoch, self.rank) if self.is_sharded else (self.epoch,)
        indices = self._draw_from_shard() if self.is_sharded else super().__iter__()
        return (SeededIndex(index, derive_seed(self.seed, *numbers, index)) for index in indices)

    def _draw_from_shard(self) -> Iterator[int]:
        count = len(self.dataset)  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch, self.rank))
        order = torch.randperm(count, generator=generator) if self.shuffle else torch.arange(count)
        return iter(order.repeat(math.ceil(self.num_samples / count))[: self.num_samples].tolist())
