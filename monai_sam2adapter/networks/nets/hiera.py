# SPDX-License-Identifier: Apache-2.0
"""SAM 2's Hiera trunk for any image size, with slots for adapters."""

from __future__ import annotations

from typing import Any

import torch
from monai.utils import look_up_option
from sam2.modeling.backbones.hieradet import Hiera
from torch import nn
from torch.overrides import TorchFunctionMode

from ..blocks import HieraBlock, PositionalEncodingGenerator
from ..layers import is_tracing_or_exporting, recomputed
from .sam2_config import sam2_encoder_config

__all__ = ["POSITIONAL_ENCODINGS", "HieraTrunk", "LinspaceOnCPU"]

POSITIONAL_ENCODINGS = ("peg", "sam2")


class HieraTrunk(Hiera):
    """
    SAM 2's image trunk, with sam2's parameter names, adapter slots in every block, and PEG in place of fixed positions.

    With ``positional_encoding="sam2"`` and no adapter its outputs equal sam2's own. The weights start as Hiera draws
    them (truncated normal of 0.02); sam2 leaves PyTorch's defaults, since it always loads trained weights.

    Source: ``sam2/modeling/backbones/hieradet.py`` (Apache-2.0); Ryali et al., arXiv:2306.00989; PEG after the first
    block as in G-SAM, arXiv:2408.12406.

    Args:
        variant: "tiny", "small", "base_plus" or "large".
        positional_encoding: "peg" or "sam2" (the windowed absolute embedding). Defaults to "peg".
        activation_checkpointing: recompute each block in the backward pass to save memory. Defaults to False.
        pad_windows: pad windows as sam2 does, see :class:`~monai_sam2adapter.networks.blocks.HieraBlock`. Defaults to
            None: on CUDA.

    Raises:
        ValueError: when ``variant`` or ``positional_encoding`` is unknown.
    """

    strides = (4, 8, 16, 32)
    blocks: nn.ModuleList

    def __init__(
        self,
        variant: str,
        positional_encoding: str = "peg",
        activation_checkpointing: bool = False,
        pad_windows: bool | None = None,
    ) -> None:
        look_up_option(positional_encoding, POSITIONAL_ENCODINGS)
        with LinspaceOnCPU():
            super().__init__(**sam2_encoder_config(variant)["trunk"])
        self.variant = variant
        self.activation_checkpointing = activation_checkpointing
        blocks = [HieraBlock(block, pad_windows) for block in self.blocks]
        self.blocks = nn.ModuleList(blocks)
        self.channels = tuple(blocks[end].dim_out for end in self.stage_ends)
        self.positional_encoding: nn.Module | None = None
        _init_as_hiera(self)
        if positional_encoding == "peg":
            self.positional_encoding = PositionalEncodingGenerator(blocks[0].dim_out)
            # Kept, so that official files load by name, but out of use: they must not wait for a gradient.
            self.pos_embed.requires_grad_(False)
            self.pos_embed_window.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """
        Args:
            x: images, ``(B, 3, H, W)``; ``H`` and ``W`` multiples of 32.

        Returns:
            four maps, shallow to deep, ``(B, channels[i], H / strides[i], W / strides[i])``.

        Raises:
            ValueError: when ``H`` or ``W`` does not fit.
        """
        self._check_size(x)
        x = self.patch_embed(x)  # (B, 3, H, W) -> (B, H / 4, W / 4, C)
        if self.positional_encoding is None:
            x = x + self._get_pos_embed(x.shape[1:3])
        outputs = []
        for index, block in enumerate(self.blocks):
            x = recomputed(block, x) if self.activation_checkpointing else block(x)
            if index == 0 and self.positional_encoding is not None:
                code = self.positional_encoding(x.permute(0, 3, 1, 2))  # (B, H, W, C) -> (B, C, H, W)
                x = x + code.permute(0, 2, 3, 1)  # (B, C, H, W) -> (B, H, W, C)
            if index in self.stage_ends:
                outputs.append(x.permute(0, 3, 1, 2))  # (B, H, W, C) -> (B, C, H, W)
        return outputs

    @staticmethod
    def _check_size(x: torch.Tensor) -> None:
        if is_tracing_or_exporting():  # a check of the example's size would be frozen into the record
            return
        height, width = x.shape[-2:]
        # The stride-4 map must hold whole windows of 8 tokens, as sam2's position embedding asks.
        if any(-(-side // 4) % 8 or side == 0 for side in (height, width)):
            fit = tuple(-(-side // 32) * 32 for side in (height, width))
            raise ValueError(
                f"spatial size ({height}, {width}) must be divisible by 32; pad to {fit}, "
                "as PromptFreeSAM2 does by itself."
            )


class LinspaceOnCPU(TorchFunctionMode):
    """Hiera and timm read numbers out of ``torch.linspace``, which has none on the meta device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function of PyTorch; the numbers of ``torch.linspace`` stay on the CPU."""
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            kwargs.setdefault("device", "cpu")
        return func(*args, **kwargs)


def _init_as_hiera(trunk: nn.Module) -> None:
    for module in trunk.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    nn.init.trunc_normal_(trunk.pos_embed, std=0.02)  # type: ignore[arg-type]
    nn.init.trunc_normal_(trunk.pos_embed_window, std=0.02)  # type: ignore[arg-type]
