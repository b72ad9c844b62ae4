# SPDX-License-Identifier: Apache-2.0
"""Fusing a network for inference, casting its frozen weights, and counting its parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from monai.utils import look_up_option
from torch import nn

from .nets import AdaptedSAM2
from .weights import unwrap_network

__all__ = ["FROZEN_DTYPES", "cast_frozen_weights", "parameter_table", "reparameterize_model"]

_Module = TypeVar("_Module", bound=nn.Module)

FROZEN_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def reparameterize_model(model: nn.Module, inplace: bool = False) -> nn.Module:
    """
    Fuse what can be fused without a change of the output: the branches of the LW-Adapter into a single convolution, and
    LoRA into the weights beside it. Other adapters are left as they are.

    Args:
        model: a network in eval mode; the layer itself may be the root.
        inplace: fuse ``model`` itself instead of a copy. Defaults to False.

    Returns:
        the fused network, in eval mode.

    Raises:
        RuntimeError: when the network, or a layer to fuse, is in training mode. Nothing is fused then.
    """
    fusible = [module for module in model.modules() if _reparameterize_of(module) is not None]
    if model.training or any(part.training for module in fusible for part in module.modules()):
        raise RuntimeError(f"{type(model).__name__} is in training mode; call .eval() before fusing it for inference.")
    model = model if inplace else copy.deepcopy(model)
    for module in list(model.modules()):
        reparameterize = _reparameterize_of(module)
        if reparameterize is not None:
            reparameterize()
    return model


def cast_frozen_weights(net: _Module, dtype: str) -> _Module:
    """
    Hold a network's frozen weights in another precision, see :meth:`AdaptedSAM2.cast_frozen`; for configs of bundles.

    The members of an ensemble then share what is frozen and the same in all, as SAM 2's weights are: it is in memory
    once.

    Args:
        net: a network, also of another package as long as nothing is to be cast; or an ensemble of them, a
            ``torch.nn.ModuleList``.
        dtype: "float32" leaves every network as it is, "bfloat16" casts.

    Returns:
        the same network.

    Raises:
        ValueError: when the dtype is unknown, or is "bfloat16" and the network is none of this package.
    """
    if isinstance(net, nn.ModuleList):
        for member in net:
            cast_frozen_weights(member, dtype)
            _share_frozen(net[0], member)
        return net
    bare, chosen = unwrap_network(net), look_up_option(dtype, FROZEN_DTYPES)
    if isinstance(bare, AdaptedSAM2):
        bare.cast_frozen(chosen)
    elif chosen != torch.float32:
        raise ValueError(
            f"{type(bare).__name__} has no frozen weights of SAM 2 to cast; leave frozen_dtype at float32."
        )
    return net


def parameter_table(model: nn.Module) -> str:
    """
    A table of the trained and of all parameters, part by part, as text.

    Args:
        model: a network; of one of another package, the parts are its modules.

    Returns:
        one line per part and one for the sum.
    """
    if isinstance(model, AdaptedSAM2):
        groups = model.parameter_groups()
    else:
        groups = {name: list(child.parameters()) for name, child in model.named_children()}
    rows = [
        (part, sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters))
        for part, parameters in groups.items()
    ]
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    lines = [f"{'part':<20} {'trained':>14} {'total':>14} {'share':>8}"]
    for part, trained, total in rows:
        lines.append(f"{part:<20} {trained:>14,} {total:>14,} {trained / max(total, 1):>8.1%}")
    return "\n".join(lines)


def _share_frozen(net: nn.Module, other: nn.Module) -> None:
    """Let the frozen weights of the other network be those of ``net`` where they are equal."""
    own = dict(net.named_parameters())
    for name, parameter in other.named_parameters():
        if not parameter.requires_grad and name in own and torch.equal(own[name], parameter):
            parameter.data = own[name].data


def _reparameterize_of(module: nn.Module) -> Callable[[], None] | None:
    method = getattr(type(module), "reparameterize", None)
    return None if method is None else method.__get__(module)
