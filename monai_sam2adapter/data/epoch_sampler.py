# SPDX-License-Identifier: Apache-2.0
"""The order of a data set in each epoch, and the seeds of its items."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import torch.distributed as dist
from torch.utils.data import DistributedSampler

from .seeded_index import SeededIndex, derive_seed

__all__ = ["EpochSampler"]


class EpochSampler(DistributedSampler):
    """
    An order of items, and random transforms for each, that depend on seed and epoch alone.

    With ``SeededCacheDataset`` or ``VolumeSliceDataset`` an epoch is the same with any number of worker processes, and
    in a run that was resumed. MONAI's trainers call ``set_epoch`` when an epoch starts; a loop of one's own has to
    call it, or all epochs are alike, in their augmentation too. ``epoch_length`` of the trainer has to stay at its
    default, the length of the loader, for epochs to begin where the sampler's do.

    With several processes each takes its share, and the first items are taken twice where the number of items does
    not divide by that of processes, as ``torch.utils.data.DistributedSampler`` does. With one process it needs no
    process group.

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
        super().__init__(dataset, num_replicas, rank, shuffle, seed, drop_last)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[SeededIndex]:
        """Numbers of the items of this process in this epoch, with their seeds."""
        epoch = self.epoch
        return (SeededIndex(index, derive_seed(self.seed, epoch, index)) for index in super().__iter__())
