# SPDX-License-Identifier: Apache-2.0
"""Make a network's own random numbers repeatable."""

from __future__ import annotations

import ignite.distributed as idist
from ignite.engine import Engine, Events
from ignite.utils import manual_seed

from ..data import derive_seed

__all__ = ["IterationSeedHandler"]


class IterationSeedHandler:
    """
    Seed the global generators (PyTorch, NumPy, Python) before each training step, from seed, iteration and process.

    Dropout and drop path then draw the same in a resumed run as in one that was not interrupted, whatever loaders and
    validation have drawn before: a loader draws from PyTorch's generator when an epoch starts, unless its worker
    processes persist. Order and augmentation are repeatable by ``monai_sam2adapter.data.EpochSampler``.

    Args:
        seed: seed of the run, from 0.

    Raises:
        ValueError: when ``seed`` is negative or not a whole number.
    """

    def __init__(self, seed: int) -> None:
        derive_seed(seed)  # checks it
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: a trainer.
        """
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """
        Args:
            engine: trainer that has just received a batch.
        """
        manual_seed(derive_seed(self.seed, engine.state.iteration, idist.get_rank()))
