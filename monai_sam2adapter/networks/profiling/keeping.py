# SPDX-License-Identifier: Apache-2.0
"""Leaving a network as it was, whatever happens while it is measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["device_of", "in_eval_mode", "placed_on", "random_input", "with_kept_state"]


def device_of(model: nn.Module) -> torch.device:
    """Where the network's parameters and buffers are, the CPU for one without any."""
    return next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))


def random_input(model: nn.Module, shape: Sequence[int]) -> torch.Tensor:
    """
    Values in [0, 1) on the device and in the dtype of the network, always the same.

    Args:
        model: the network.
        shape: of the input, with the batch.

    Raises:
        ValueError: when a number of the shape is not positive.
    """
    if not shape or min(shape) < 1:
        raise ValueError(f"an input shape must have positive numbers only, such as (1, 3, 256, 256), got {shape}.")
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    # its own generator: the caller's random numbers stay what they would have been
    values = torch.rand(*shape, generator=torch.Generator().manual_seed(0))
    return values.to(device_of(model), dtype)


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Set eval mode, and give every module its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def placed_on(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Move the network to a device, and back."""
    before = device_of(model)
    model.to(device)
    try:
        yield
    finally:
        model.to(before)


@contextmanager
def with_kept_state(model: nn.Module) -> Iterator[None]:
    """Give buffers (statistics of BatchNorm in training mode) and random numbers their state back."""
    device = device_of(model)
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        for buffer, before in buffers:
            if not torch.equal(buffer, before):  # writing makes a pending backward pass invalid
                buffer.copy_(before)
