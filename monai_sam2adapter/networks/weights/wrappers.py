# SPDX-License-Identifier: Apache-2.0
"""What torch.compile and the parallel wrappers of PyTorch put around a network and before the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar, cast

import torch
from torch import nn

__all__ = ["unwrap_names", "unwrap_network"]

_Value = TypeVar("_Value")
_Network = TypeVar("_Network")
# torch.compile may be around any part of a network, the parallel wrappers are around the whole; no part of a network
# of this package has one of these names
_WRAPPERS = re.compile(r"^((module|_orig_mod)\.)+|(?<=\.)(_orig_mod\.)+")


def unwrap_network(network: _Network) -> _Network:
    """
    The network itself.

    Args:
        network: bare, or inside ``torch.compile``, ``DistributedDataParallel`` and ``DataParallel``, in any order.

    Returns:
        the network without what is around it; it shares all tensors.
    """
    inner: object = network
    while True:
        if isinstance(inner, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            inner = inner.module
        elif isinstance(inner, torch._dynamo.OptimizedModule):
            inner = inner._orig_mod
        else:
            return cast("_Network", inner)


def unwrap_names(tensors: Mapping[str, _Value]) -> dict[str, _Value]:
    """
    The names of a state dictionary as the network itself has them.

    Args:
        tensors: values by names, saved from a network in any of the wrappers of :func:`unwrap_network`.

    Returns:
        the values by their bare names, in the same order.

    Raises:
        ValueError: when two names are the same without the wrappers'.
    """
    bare = {_WRAPPERS.sub("", name): value for name, value in tensors.items()}
    if len(bare) < len(tensors):
        raise ValueError("some tensors are there twice, with and without 'module.' or '_orig_mod.' in their names.")
    return bare
