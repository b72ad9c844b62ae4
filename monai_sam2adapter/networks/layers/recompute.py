# SPDX-License-Identifier: Apache-2.0
"""Activation checkpointing of modules, some of whose layers count what they see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

__all__ = ["recomputed"]


def recomputed(module: nn.Module, *inputs: Any) -> Any:
    """
    Run a module and keep no activations of it: the backward pass runs it again.

    BatchNorm counts the batch once. Where no gradients are asked for, this is a call of the module.

    Args:
        module: what to run.
        inputs: what its ``forward`` takes.
    """
    # Not asked of module.training: a frozen part is in eval mode while its adapters train.
    if not torch.is_grad_enabled():
        return module(*inputs)
    # A compiled backward pass recomputes values only, no statistics.
    if torch.compiler.is_compiling() or not _norms_with_statistics(module):
        return checkpoint(module, *inputs, use_reentrant=False)
    contexts = lambda: (nullcontext(), _frozen_statistics(module))  # noqa: E731
    return checkpoint(module, *inputs, use_reentrant=False, context_fn=contexts)


def _norms_with_statistics(module: nn.Module) -> list[Any]:
    """The layers in training mode whose running statistics a forward pass changes."""
    return [layer for layer in module.modules() if layer.training and getattr(layer, "track_running_stats", False)]


@contextmanager
def _frozen_statistics(module: nn.Module) -> Iterator[Any]:
    """Keep BatchNorm's running statistics as they are, since recomputing a module would count its batch twice."""
    kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in _norms_with_statistics(module)]
    for norm, _, count in kept:
        norm.momentum, norm.num_batches_tracked = 0.0, count.clone()
    try:
        yield
    finally:
        for norm, momentum, count in kept:
            norm.momentum, norm.num_batches_tracked = momentum, count
