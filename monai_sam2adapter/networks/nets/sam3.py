# SPDX-License-Identifier: Apache-2.0
"""SAM 3's image trunk for any image size, with slots for adapters."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Any

import torch
from monai.utils import look_up_option
from torch import nn

from ...utils.logs import escaping_logger
from ..blocks import RotaryBlock
from ..layers import arange_like, rotary_factors
from ..weights import load_sam3_checkpoint
from .vit import ViTTrunk

__all__ = ["SAM3_CONFIGS", "SAM3Trunk"]

logger = escaping_logger(__name__)

#: by variant; Meta has released one size
SAM3_CONFIGS: dict[str, dict[str, Any]] = {
    "large": {
        **{"channels": 1024, "num_heads": 16, "mlp_channels": 4736, "num_blocks": 32},
        **{"window_size": 24, "global_blocks": (7, 15, 23, 31)},
    }
}
_THETA = 10000.0
_LICENSE = "https://github.com/facebookresearch/sam3/blob/main/LICENSE"


class SAM3Trunk(ViTTrunk):
    """
    SAM 3's image trunk (Perception Encoder), with the names of its files and adapter slots in every block.

    Four blocks attend to all tokens, the others in windows of 24 x 24. A learned embedding of 24 x 24 positions is laid
    over the map like tiles; rotary positions run from 0 to 24 in each window, and over the whole map where a block
    attends to all. Meta's code keeps those for 1008 x 1008 pixels in a file; here they are computed, which gives the
    same, and serves every height and width.

    Source: Carion et al., "SAM 3", arXiv:2511.16719; Bolya et al., "Perception Encoder", arXiv:2504.13181. Own code,
    from the file's names and the published definition. Weights: SAM License.

    Args:
        variant: "large", the only one. Defaults to "large".
        positional_encoding: "peg" or "rope" (SAM 3's own positions alone). Defaults to "peg".
        activation_checkpointing: recompute each block in the backward pass to save memory. Defaults to False.

    Raises:
        ValueError: when ``variant`` or ``positional_encoding`` is unknown.
    """

    variants = ("large",)
    patch_size = 14
    output_strides = (4,)  # in fact 3.5 pixels, which have no half
    has_neck = True
    advice = (
        "Ask for access at https://huggingface.co/facebook/sam3 (gated, SAM License, which forbids military use and "
        "travels along with the weights), get sam3.pt there, and give its path as the checkpoint, in a bundle as "
        "sam2_checkpoint; or 'random' to try without weights."
    )

    def __init__(
        self, variant: str = "large", positional_encoding: str = "peg", activation_checkpointing: bool = False
    ) -> None:
        super().__init__(positional_encoding, activation_checkpointing)
        self.variant = look_up_option(variant, self.variants)
        config = SAM3_CONFIGS[variant]
        channels, self.window_size = config["channels"], config["window_size"]
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.window_size**2, channels))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, channels, self.patch_size, stride=self.patch_size, bias=False)
        self.ln_pre = nn.LayerNorm(channels)
        blocks = [
            RotaryBlock(
                nn.LayerNorm(channels),
                _Attention(channels, config["num_heads"]),
                nn.LayerNorm(channels),
                _mlp(channels, config["mlp_channels"]),
                window_size=0 if index in config["global_blocks"] else self.window_size,
                interleaved=True,
            )
            for index in range(config["num_blocks"])
        ]
        self.add_blocks(blocks)
        for module in (*self.blocks.modules(), self.patch_embed.proj):
            if isinstance(module, nn.Linear | nn.Conv2d) and module is not getattr(self.positional_encoding, "conv", 0):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    @classmethod
    def load(cls, net: Any, checkpoint: str | os.PathLike[str]) -> None:
        """
        Load SAM 3's weights, see :func:`~monai_sam2adapter.networks.weights.load_sam3_checkpoint`.

        Args:
            net: a network with this trunk as ``image_encoder.trunk``, changed in place.
            checkpoint: path of Meta's file.
        """
        logger.info("SAM 3's weights are under the SAM License: %s", _LICENSE)
        load_sam3_checkpoint(net, checkpoint)

    def _embed(self, x: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        x = self.patch_embed.proj(x)  # type: ignore[operator]
        size = self.window_size
        tile = self.pos_embed[:, 1:].transpose(1, 2).reshape(1, -1, size, size)  # without that of a class token
        rows, columns = ((side + size - 1) // size for side in grid)
        tiles = tile.repeat(1, 1, rows, columns).narrow(2, 0, grid[0]).narrow(3, 0, grid[1])
        return self.ln_pre((x + tiles).flatten(2).transpose(1, 2))  # (B, C, H, W) -> (B, H * W, C)

    def _factors(self, grid: tuple[int, int], x: torch.Tensor) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
        like = x.new_zeros((), dtype=torch.float32)
        half = self.head_channels // 2
        frequencies = _THETA ** (-2.0 * arange_like(half // 2, like) / half)

        def factors(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
            y, x_ = (arange_like(side, like) * (self.window_size / side) for side in (height, width))
            rows, columns = torch.meshgrid(y, x_, indexing="ij")
            return rotary_factors(columns.flatten(), rows.flatten(), frequencies, interleaved=True)

        return {0: factors(*grid), self.window_size: factors(self.window_size, self.window_size)}


class _Attention(nn.Module):
    """The linear layers of an attention."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)


def _mlp(channels: int, hidden: int) -> nn.Sequential:
    layers = {"fc1": nn.Linear(channels, hidden), "act": nn.GELU(), "fc2": nn.Linear(hidden, channels)}
    return nn.Sequential(OrderedDict(layers))
