# SPDX-License-Identifier: Apache-2.0
"""The shape that all adapters beside the MLP share."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import nn

from .base import Adapter, AdapterConfig

__all__ = ["MLPAdapter"]


class MLPAdapter(Adapter):
    """
    Project down, mix neighboring tokens, GELU, project up. The last projection starts at zero, so the adapter does too.

    A method builds the layer that mixes neighbors; one that has it at another place overrides ``_mix``.

    Source: AdaptFormer, arXiv:2205.13535, section 3.2, with a spatial layer in the bottleneck as in arXiv:2605.05979.
    That paper's full text gives no widths: 1/4 of the channels is our default.

    Args:
        channels: channels ``C`` of the tokens.
        config: the method's settings. Defaults to its own.
    """

    def __init__(self, channels: int, config: AdapterConfig | None = None) -> None:
        super().__init__(channels, config)
        width = max(1, round(channels * self.config.bottleneck_ratio))
        self.down = nn.Linear(channels, width)
        self.spatial = self._spatial_layer(width)
        self.act = nn.GELU()
        self.up = nn.Linear(width, channels)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    @abstractmethod
    def _spatial_layer(self, width: int) -> nn.Module:
        """Build the layer that mixes neighbors, ``(B, width, H, W)`` to the same shape."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: tokens, ``(B, H, W, C)``.

        Returns:
            what the block adds to its own output, ``(B, H, W, C)``.
        """
        hidden = self.down(x).permute(0, 3, 1, 2)  # (B, H, W, C) -> (B, C, H, W)
        hidden = self._mix(hidden).permute(0, 2, 3, 1)  # (B, C, H, W) -> (B, H, W, C)
        return self.config.scale * self.up(hidden)

    def _mix(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.act(self.spatial(hidden))
