# SPDX-License-Identifier: Apache-2.0
"""LoRA: a low-rank change of the attention's weights."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from .attention import AttentionAdapter
from .base import AdapterConfig
from .registry import register_adapter

__all__ = ["LoRAAdapter", "LoRAConfig"]


@dataclass(frozen=True)
class LoRAConfig(AdapterConfig):
    """
    The settings of LoRA. There is no ``bottleneck_ratio``: the rank is the width, the same in all blocks.

    Args:
        scale: factor on the change, which is written ``alpha / rank`` elsewhere. Defaults to 1.
        blocks: indices of the trunk's blocks to adapt, negative ones from the end; None for all. Defaults to None.
        rank: rank of the change of each weight. Defaults to 4.

    Raises:
        ValueError: when a value is out of its range.
    """

    bottleneck_ratio: float = field(default=1.0, init=False, repr=False)
    scale: float = 1.0
    rank: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.rank, bool) or not isinstance(self.rank, int) or self.rank < 1:
            raise ValueError(f"rank must be an integer of at least 1, got {self.rank!r}.")


@register_adapter("lora")
class LoRAAdapter(AttentionAdapter):
    """
    LoRA on ``qkv`` and ``proj`` of a block's attention: two projections without bias. The second starts at zero.

    :func:`~monai_sam2adapter.networks.adapters.merge_adapters` adds it to the weights and ``unmerge_adapters`` takes it
    out to go on training; :func:`~monai_sam2adapter.networks.utils.reparameterize_model` gives a merged copy.

    Source: Hu et al., "LoRA", arXiv:2106.09685, section 4.1. Changes queries, keys and values together, since SAM 2 has
    one layer for them.

    Args:
        channels: channels ``C`` of the tokens that enter ``qkv``.
        config: the settings, :class:`~monai_sam2adapter.networks.adapters.LoRAConfig`. Defaults to the method's own.
        out_channels: channels of queries, keys and values each, and of ``proj``. Defaults to ``channels``.
    """

    per_token = True
    config_class = LoRAConfig
    config: LoRAConfig

    def _branch(self, in_channels: int, out_channels: int) -> nn.Module:
        down = nn.Linear(in_channels, self.config.rank, bias=False)
        up = nn.Linear(self.config.rank, out_channels, bias=False)
        nn.init.zeros_(up.weight)
        return nn.Sequential(down, up)

    def weight_update(self, layer: str) -> torch.Tensor:
        """
        Args:
            layer: "qkv" or "proj".

        Returns:
            what the adapter adds to the weight of the layer, ``(C_out, C_in)``, in float64 on the CPU.
        """
        down, up = (projection.weight.detach().cpu().double() for projection in getattr(self, layer))
        return self.config.scale * up @ down
