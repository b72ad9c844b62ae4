# SPDX-License-Identifier: Apache-2.0
"""Conv-LoRA: LoRA with convolutions at several scales in the bottleneck."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from .attention import AttentionAdapter
from .lora import LoRAConfig
from .registry import register_adapter

__all__ = ["ConvLoRAAdapter", "ConvLoRAConfig"]


@dataclass(frozen=True)
class ConvLoRAConfig(LoRAConfig):
    """
    The settings of Conv-LoRA.

    Args:
        scale: factor on the change. Defaults to 1.
        blocks: indices of the trunk's blocks to adapt, negative ones from the end; None for all. Defaults to None.
        rank: channels of the bottleneck. Defaults to 4.
        num_experts: experts; expert ``i`` convolves the map enlarged ``i`` times, counted from 1. Defaults to 4, which
            brings the trunk's first stage (stride 4) to the size of the image.

    Raises:
        ValueError: when a value is out of its range.
    """

    num_experts: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.num_experts, bool) or not isinstance(self.num_experts, int) or self.num_experts < 1:
            raise ValueError(f"num_experts must be an integer of at least 1, got {self.num_experts!r}.")


class _ConvBranch(nn.Module):
    """Project down, add what the experts find, weighted for each image by the gate, project up."""

    def __init__(self, in_channels: int, out_channels: int, rank: int, num_experts: int) -> None:
        super().__init__()
        self.down = nn.Linear(in_channels, rank, bias=False)
        self.gate = nn.Linear(rank, num_experts, bias=False)
        self.experts = nn.ModuleList(nn.Conv2d(rank, rank, 3, padding=1) for _ in range(num_experts))
        self.up = nn.Linear(rank, out_channels, bias=False)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.down(x).permute(0, 3, 1, 2)  # (B, H, W, C) -> (B, C, H, W)
        weights = self.gate(hidden.mean(dim=(2, 3))).softmax(dim=1)
        mixed = hidden
        for index, expert in enumerate(self.experts):
            found = self._at_scale(expert, hidden, index + 1)
            mixed = mixed + weights[:, index, None, None, None] * found
        return self.up(mixed.permute(0, 2, 3, 1))  # (B, C, H, W) -> (B, H, W, C)

    @staticmethod
    def _at_scale(expert: nn.Module, x: torch.Tensor, scale: int) -> torch.Tensor:
        """Convolve the map at ``scale`` times its size, and bring it back."""
        if scale == 1:
            return F.gelu(expert(x))
        larger = F.interpolate(x, scale_factor=float(scale), mode="bilinear", align_corners=False)
        return F.interpolate(F.gelu(expert(larger)), size=x.shape[-2:], mode="bilinear", align_corners=False)


@register_adapter("conv_lora")
class ConvLoRAAdapter(AttentionAdapter):
    """
    Conv-LoRA on ``qkv`` and ``proj`` of a block's attention: LoRA whose bottleneck adds a mixture of 3 x 3 convolutions
    at several scales, weighted by a gate on the mean over the image. The last projection starts at zero.

    It cannot be merged into the weights of the layer, since it mixes neighboring tokens.

    Source: Zhong et al., "Convolution Meets LoRA", arXiv:2401.17868. Differs from the authors' published code, which
    runs one expert of eight per window of the attention, chosen with noise and kept in balance by a loss of its own:
    here all experts run on the whole token map, weighted by the gate's softmax. So the gate learns from the task, every
    weight gets a gradient in every step, and one recorded pass serves every image. Maps are resized bilinearly.

    Args:
        channels: channels ``C`` of the tokens that enter ``qkv``.
        config: the settings, :class:`~monai_sam2adapter.networks.adapters.ConvLoRAConfig`. Defaults to its own.
        out_channels: channels of queries, keys and values each, and of ``proj``. Defaults to ``channels``.
    """

    config_class = ConvLoRAConfig
    config: ConvLoRAConfig

    def _branch(self, in_channels: int, out_channels: int) -> nn.Module:
        return _ConvBranch(in_channels, out_channels, self.config.rank, self.config.num_experts)
