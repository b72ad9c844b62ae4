# SPDX-License-Identifier: Apache-2.0
"""MONAI's data set of items in memory, with random transforms that can be repeated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from monai.data import CacheDataset
from monai.transforms import Compose

from .seeded_index import seeded_transform

__all__ = ["SeededCacheDataset"]


class SeededCacheDataset(CacheDataset):
    """
    ``monai.data.CacheDataset``, with the same arguments, for use with ``EpochSampler``.

    A ``Compose`` among the transforms counts as the transforms in it; MONAI takes it for a random one, and would cache
    nothing from there on.

    Items that the sampler asks for are the same with any number of worker processes and after a resumed run: their
    random transforms, which derive from ``monai.transforms.Randomizable`` or draw from PyTorch's generator, start from
    the seed that the sampler gives for the item and the epoch. Items asked for by a plain number are random as in
    MONAI.

    What the transforms before the first random one give is kept in memory, in the data type and size that it has then:
    resize large photographs before it. ``cache_rate=0`` keeps nothing.

    With ``cache_rate`` 1 all files are read when the data set is built, and a bad one stops the run there; below 1 the
    others are read when their turn comes.
    """

    def __init__(self, data: Sequence, transform: Sequence[Callable] | Callable | None = None, **options: Any) -> None:
        super().__init__(data, Compose(transform).flatten(), **options)

    def __getitem__(self, index: int | slice | Sequence[int]) -> Any:
        """The item of that number; a subset for a slice or a sequence of numbers."""
        with seeded_transform(self.transform, index):
            return super().__getitem__(index)
