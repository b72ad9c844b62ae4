# SPDX-License-Identifier: Apache-2.0
"""Merging adapters into the weights of their blocks, and taking them out again."""

from __future__ import annotations

from torch import nn

from ..blocks import HieraBlock

__all__ = ["merge_adapters", "unmerge_adapters"]


def merge_adapters(model: nn.Module) -> int:
    """
    Merge all adapters of a network into the weights of its blocks, in place, with the same output.

    The network then is one without adapters, in its state dict and its ``config`` too. To keep the network as it is and
    get a merged copy for inference, use :func:`~monai_sam2adapter.networks.utils.reparameterize_model`.

    Args:
        model: a network with LoRA adapters.

    Returns:
        the number of merged adapters.

    Raises:
        ValueError: when the network has an adapter of another method. Nothing is merged then.
    """
    blocks = _blocks_of(model)
    others = sorted({name for block in blocks for name in block.adapters if name not in block.mergeable_adapters()})
    if others:
        raise ValueError(
            f"adapter {', '.join(map(repr, others))} cannot be merged: only a method that changes a weight by another "
            "one, such as 'lora', can. Use the network as it is, or remove_adapters first."
        )
    return sum(block.merge_adapters() for block in blocks)


def unmerge_adapters(model: nn.Module) -> int:
    """
    Undo :func:`merge_adapters`: the weights are those before to the last bit, and the adapters can be trained further.

    Args:
        model: the network. Weights that were loaded or trained in its attention since the merge are lost.

    Returns:
        the number of adapters put back; 0 when none was merged, or by ``reparameterize_model``, which keeps none.
    """
    return sum(block.unmerge_adapters() for block in _blocks_of(model))


def _blocks_of(model: nn.Module) -> list[HieraBlock]:
    return [module for module in model.modules() if isinstance(module, HieraBlock)]
