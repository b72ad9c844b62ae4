# SPDX-License-Identifier: Apache-2.0
"""The adapter of SAM2-UNet and SAM2-UNeXT, in front of a block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .base import Adapter, AdapterConfig
from .registry import register_adapter

__all__ = ["BottleneckAdapter", "BottleneckConfig"]


@dataclass(frozen=True)
class BottleneckConfig(AdapterConfig):
    """
    The settings of :class:`BottleneckAdapter`.

    Args:
        bottleneck_ratio: width over the channels of the block, where ``width`` is None. Defaults to 0.25.
        scale: factor on the adapter's output. Defaults to 1.
        blocks: indices of the trunk's blocks to adapt, None for all. Defaults to None.
        width: width of the adapter in every block, None for ``bottleneck_ratio``. Defaults to 32, as in SAM2-UNet.

    Raises:
        ValueError: when a value is out of its range.
    """

    scale: float = 1.0
    width: int | None = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width is not None and (isinstance(self.width, bool) or int(self.width) != self.width or self.width < 1):
            raise ValueError(f"width must be a whole number from 1, or None, got {self.width!r}.")


@register_adapter("bottleneck")
class BottleneckAdapter(Adapter):
    """
    Two linear layers with a GELU after each, in front of a block: ``block(x + gelu(up(gelu(down(x)))))``.

    It does not start at zero: its weights are drawn from a truncated normal of 0.02, as the authors' are.

    Source: Xiong et al., SAM2-UNet, arXiv:2408.08870, and SAM2-UNeXT, arXiv:2508.03566.

    Args:
        channels: channels ``C`` of the tokens.
        config: the settings, :class:`BottleneckConfig`. Defaults to the method's own.
    """

    slot = "block"
    per_token = True
    config_class = BottleneckConfig
    config: BottleneckConfig

    def __init__(self, channels: int, config: BottleneckConfig | None = None) -> None:
        super().__init__(channels, config)
        width = self.config.width or max(1, round(channels * self.config.bottleneck_ratio))
        self.down, self.up = nn.Linear(channels, width), nn.Linear(width, channels)
        self.act = nn.GELU()
        for layer in (self.down, self.up):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: tokens, ``(B, H, W, C)``.

        Returns:
            what is added to the block's input, ``(B, H, W, C)``.
        """
        return self.config.scale * self.act(self.up(self.act(self.down(x))))
