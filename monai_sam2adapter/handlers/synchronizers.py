# SPDX-License-Identifier: Apache-2.0
"""What the processes of a run have in common: the network that is evaluated, the loss that is logged."""

from __future__ import annotations

from typing import Any

import ignite.distributed as idist
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys

__all__ = ["BufferSynchronizer", "LossSynchronizer", "gather_lists"]


def gather_lists(items: list[Any]) -> list[list[Any]]:
    """The list that each process has, by rank; call it in all of them."""
    if idist.get_world_size() == 1:
        return [items]
    lists: list[list[Any]] = [[] for _ in range(idist.get_world_size())]
    dist.all_gather_object(lists, items)
    return lists


class BufferSynchronizer:
    """
    Copy the buffers of the network in the first process to all others before every evaluation.

    ``DistributedDataParallel`` keeps parameters equal. Running statistics of BatchNorm, which the LW-adapter has, are
    each process's own between two forward passes of the training, so that the processes would validate networks that
    differ a little, of which only the first one's is saved. A run of one process needs nothing and does nothing.

    Args:
        network: the network that is evaluated, itself and not inside ``DistributedDataParallel``, whose forward pass
            waits for the other processes: these may have fewer cases.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: evaluator of the network; attach on all processes.
        """
        if idist.get_world_size() > 1:
            engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """
        Args:
            engine: evaluator that is about to run.
        """
        for buffer in self.network.buffers():
            dist.broadcast(buffer, src=0)  # in place


class LossSynchronizer:
    """
    Put the mean over all processes in the place of the loss, once the gradients are computed.

    Each process has the loss of its share of the batch; what the first one's handlers log, print and draw is then the
    curve of the run. The gradients, which ``DistributedDataParallel`` averages, are as they were.
    """

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: a ``monai.engines.SupervisedTrainer``; attach on all processes.
        """
        if idist.get_world_size() > 1:
            engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: SupervisedTrainer) -> None:
        """
        Args:
            engine: trainer that has just computed its gradients.
        """
        loss = engine.state.output[CommonKeys.LOSS].detach().clone()
        engine.state.output[CommonKeys.LOSS] = idist.all_reduce(loss) / idist.get_world_size()
