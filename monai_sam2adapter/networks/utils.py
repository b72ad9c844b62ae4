# SPDX-License-Identifier: Apache-2.0
"""Fusing a network for inference, and counting its parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Protocol

from torch import nn

__all__ = ["parameter_table", "reparameterize_model"]


class HasParameterGroups(Protocol):
    """A network that knows its parts."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters by part."""
        ...


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


def parameter_table(model: HasParameterGroups) -> str:
    """
    A table of the trained and of all parameters, part by part, as text.

    Args:
        model: a network with ``parameter_groups()``, such as ``PromptFreeSAM2``.

    Returns:
        one line per part and one for the sum.
    """
    rows = [
        (part, sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters))
        for part, parameters in model.parameter_groups().items()
    ]
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    lines = [f"{'part':<20} {'trained':>14} {'total':>14} {'share':>8}"]
    for part, trained, total in rows:
        lines.append(f"{part:<20} {trained:>14,} {total:>14,} {trained / max(total, 1):>8.1%}")
    return "\n".join(lines)


def _reparameterize_of(module: nn.Module) -> Callable[[], None] | None:
    method = getattr(type(module), "reparameterize", None)
    return None if method is None else method.__get__(module)
