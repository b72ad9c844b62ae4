# SPDX-License-Identifier: Apache-2.0
"""The shape that the adapters beside the linear layers of the attention share."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import nn

from ..blocks import AdaptedBlock
from .base import Adapter, AdapterConfig

__all__ = ["AttentionAdapter"]


class AttentionAdapter(Adapter):
    """
    One module beside each of the two linear layers of a block's attention, ``qkv`` and ``proj``.

    Args:
        channels: channels ``C`` of the tokens that enter ``qkv``.
        config: the method's settings. Defaults to its own.
        out_channels: channels of queries, keys and values each, and of ``proj``. Defaults to ``channels``.
    """

    slot = "attention"

    def __init__(self, channels: int, config: AdapterConfig | None = None, out_channels: int | None = None) -> None:
        super().__init__(channels, config)
        out_channels = channels if out_channels is None else out_channels
        self.qkv = self._branch(channels, 3 * out_channels)
        self.proj = self._branch(out_channels, out_channels)

    @classmethod
    def for_block(cls, block: AdaptedBlock, config: AdapterConfig) -> Adapter:
        """Build the adapter for the attention of a block."""
        return cls(block.slot_channels(cls.slot), config, block.dim_out)

    @abstractmethod
    def _branch(self, in_channels: int, out_channels: int) -> nn.Module:
        """Build the module beside one layer, ``(B, H, W, in_channels)`` to ``(B, H, W, out_channels)``."""

    def forward(self, x: torch.Tensor, layer: str = "qkv") -> torch.Tensor:
        """
        Args:
            x: tokens that enter the layer, ``(B, H, W, C_in)``.
            layer: "qkv" or "proj". Defaults to "qkv".

        Returns:
            what is added to the layer's output, ``(B, H, W, C_out)``.
        """
        return self.config.scale * getattr(self, layer)(x)
