# SPDX-License-Identifier: Apache-2.0
"""Random numbers that depend on what is asked for, not on which process computes it or on what it computed before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from monai.transforms import Compose

__all__ = ["SeededIndex", "derive_seed", "seeded_transform"]


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
