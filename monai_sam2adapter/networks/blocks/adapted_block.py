# SPDX-License-Identifier: Apache-2.0
"""What a transformer block has to be to take adapters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from monai.utils import look_up_option
from torch import nn

__all__ = ["AdaptedBlock"]

SLOTS = ("block", "attention", "mlp")
ATTENTION_LAYERS = ("qkv", "proj")


class AdaptedBlock(nn.Module):
    """
    Base of the transformer blocks that take adapters, whatever their encoder.

    There are three places for adapters, all empty at first. With ``n = norm2(x)``:

    - ``"block"``, in front of the block: ``block(x + adapter(x))``,
    - ``"attention"``, beside the linear layers of the attention, "qkv" and "proj": ``layer(x) + adapter(x, layer)``,
    - ``"mlp"``, beside the MLP on its normalized input: ``x + mlp(n) + adapter(n)``.

    An adapter that has ``weight_update(layer)``, in float64 on the CPU, can be merged into the weight of the layer and
    taken out again.

    A subclass has ``attn``, a module with the linear layers ``qkv`` and ``proj``, and runs what
    ``_adapters_in(slot)`` gives, on token maps ``(B, H, W, C)``. It calls :meth:`add_slots` at the end of its
    constructor: optimizers and profiles expect adapters behind the block's own parameters.
    """

    #: channels of the tokens that enter and that leave the block
    dim: int
    dim_out: int
    attn: Any

    def add_slots(self) -> None:
        """Make the slots, as the last part of the block."""
        self.adapters = nn.ModuleDict()
        self._slot_of: dict[str, str] = {}
        # Kept for unmerge_adapters, out of the state dict: a merged block has its own names only.
        self._merged: dict[str, nn.Module] = {}
        self._weights_before: dict[str, torch.Tensor] = {}

    def add_adapter(self, name: str, slot: str, adapter: nn.Module) -> None:
        """
        Put an adapter into a slot.

        Args:
            name: under which its parameters are kept: ``adapters.<name>.``.
            slot: "block", "attention" or "mlp".
            adapter: maps ``(B, H, W, C)`` to the same shape, ``C`` as :meth:`slot_channels` says. In "attention" it is
                also given the name of the layer, whose input and output channels it has.

        Raises:
            ValueError: when the slot is unknown, or the block has an adapter of this name.
        """
        look_up_option(slot, SLOTS)
        if self.has_adapter(name):
            raise ValueError(f"the block has an adapter {name!r} already; remove it first or choose another name.")
        self.adapters[name] = adapter
        self._slot_of[name] = slot

    @property
    def has_merged(self) -> bool:
        """Whether it has adapters that are merged and can be put back."""
        return bool(self._merged)

    def has_adapter(self, name: str) -> bool:
        """Whether the block has an adapter of this name, merged or not."""
        return name in self.adapters or name in self._merged

    def remove_adapters(self) -> int:
        """Take all adapters out, merged ones too, and return their number."""
        self.unmerge_adapters()
        count = len(self.adapters)
        self.adapters.clear()
        self._slot_of.clear()
        return count

    def slot_channels(self, slot: str) -> int:
        """Channels ``C`` that an adapter in ``slot`` gets and returns; in "attention" those that enter "qkv"."""
        return {"block": self.dim, "attention": self.dim, "mlp": self.dim_out}[look_up_option(slot, SLOTS)]

    def mergeable_adapters(self) -> dict[str, nn.Module]:
        """The adapters that have ``weight_update(layer)``, by name."""
        return {name: adapter for name, adapter in self.adapters.items() if hasattr(adapter, "weight_update")}

    @torch.no_grad()
    def merge_adapters(self) -> int:
        """
        Add the mergeable adapters to the weights of the attention, and take them out.

        Returns:
            the number of merged adapters.

        Raises:
            ValueError: when the weights are in another precision than the adapters. Nothing is merged then.
        """
        merged = self.mergeable_adapters()
        self._check_precision(merged)
        for layer in ATTENTION_LAYERS if merged else ():
            weight = getattr(self.attn, layer).weight
            self._weights_before.setdefault(layer, weight.detach().clone())
            if weight.is_meta:  # shapes only
                continue
            # In float64, so that the sum adds no rounding of its own; on the CPU: not every device has float64.
            updates = [adapter.weight_update(layer) for adapter in merged.values()]  # type: ignore[operator]
            weight.copy_(sum(updates, weight.cpu().double()))
        for name in merged:
            self._merged[name] = self.adapters.pop(name)
        return len(merged)

    @torch.no_grad()
    def unmerge_adapters(self) -> int:
        """
        Put the merged adapters back beside the weights as these were before, to the last bit.

        Returns:
            the number of adapters put back.
        """
        for layer, before in self._weights_before.items():
            getattr(self.attn, layer).weight.copy_(before)
        count, reference = len(self._merged), self.attn.qkv.weight
        for name, adapter in self._merged.items():
            self.adapters[name] = adapter.to(reference.device, reference.dtype)
        self._forget_merged()
        return count

    def reparameterize(self) -> None:
        """Merge for good: as :meth:`merge_adapters`, without keeping what :meth:`unmerge_adapters` needs."""
        self.merge_adapters()
        self._forget_merged()

    def _check_precision(self, adapters: dict[str, nn.Module]) -> None:
        dtype = self.attn.qkv.weight.dtype
        if any(parameter.dtype != dtype for adapter in adapters.values() for parameter in adapter.parameters()):
            raise ValueError(
                f"the block's weights are in {dtype}, in which they would lose what its adapters change; merge before "
                "cast_frozen, or call cast_frozen(torch.float32) first."
            )

    def _forget_merged(self) -> None:
        self._merged.clear()
        self._weights_before.clear()

    def _adapters_in(self, slot: str) -> Iterator[nn.Module]:
        return (adapter for name, adapter in self.adapters.items() if self._slot_of[name] == slot)

    def _has_attention_adapters(self) -> bool:
        return any(self._slot_of[name] == "attention" for name in self.adapters)
