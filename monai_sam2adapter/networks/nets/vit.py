# SPDX-License-Identifier: Apache-2.0
"""What the plain vision transformers have in common that take the place of SAM 2's trunk."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import torch
from monai.utils import look_up_option
from torch import nn

from ..blocks import PositionalEncodingGenerator, RotaryBlock
from ..layers import is_tracing_or_exporting, recomputed
from .mask_decoder import OUTPUT_STRIDES

__all__ = ["VIT_POSITIONAL_ENCODINGS", "ViTTrunk"]

VIT_POSITIONAL_ENCODINGS = ("peg", "rope")


class ViTTrunk(nn.Module):
    """
    Base of the plain vision transformers: one map at the stride of the patches, from images of any size.

    Their own positions are rotary, which serve every size, and stay in any case. PEG is added to them after the first
    block (it starts at zero).

    Args:
        positional_encoding: "peg" or "rope" (the encoder's own positions alone). Defaults to "peg".
        activation_checkpointing: recompute each block in the backward pass to save memory. Defaults to False.

    Raises:
        ValueError: when ``positional_encoding`` is unknown.
    """

    #: sizes of the encoder, the default first
    variants: ClassVar[tuple[str, ...]] = ()
    #: side of a patch in pixels, which is the stride of the map
    patch_size: ClassVar[int]
    #: strides that the head behind the trunk can end at, the default first
    output_strides: ClassVar[tuple[int, ...]] = OUTPUT_STRIDES
    #: the neck behind the trunk has pretrained weights of its own
    has_neck: ClassVar[bool] = False
    #: how to get weights, for a message
    advice: ClassVar[str] = ""
    blocks: Any
    channels: tuple[int, ...]
    num_prefix_tokens = 0

    def __init__(self, positional_encoding: str = "peg", activation_checkpointing: bool = False) -> None:
        super().__init__()
        look_up_option(positional_encoding, VIT_POSITIONAL_ENCODINGS)
        self.uses_peg = positional_encoding == "peg"
        self.activation_checkpointing = activation_checkpointing

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride of the one map."""
        return (self.patch_size,)

    @classmethod
    def load(cls, net: Any, checkpoint: str | os.PathLike[str]) -> None:
        """Load the encoder's weights into a network with this trunk, by the names of its files."""
        raise NotImplementedError

    def add_blocks(self, blocks: list[RotaryBlock]) -> None:
        """Take the blocks, and make PEG of their channels."""
        self.blocks = nn.ModuleList(blocks)
        self.channels, self.head_channels = (blocks[0].dim,), blocks[0].dim // blocks[0].attn.num_heads
        self.positional_encoding = PositionalEncodingGenerator(blocks[0].dim) if self.uses_peg else None

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """
        Args:
            x: images, ``(B, 3, H, W)``; ``H`` and ``W`` multiples of ``patch_size``.

        Returns:
            one map, ``(B, channels[0], H / patch_size, W / patch_size)``.

        Raises:
            ValueError: when ``H`` or ``W`` does not fit.
        """
        self._check_size(x)
        grid = (x.shape[2] // self.patch_size, x.shape[3] // self.patch_size)
        x = self._embed(x, grid)
        factors = self._factors(grid, x)
        for index, block in enumerate(self.blocks):
            inputs = (x, grid, factors[block.window_size])
            x = recomputed(block, *inputs) if self.activation_checkpointing else block(*inputs)
            if index == 0 and self.positional_encoding is not None:
                x = self._add_code(x, grid)
        return [self._as_map(self._finish(x), grid)]

    def _embed(self, x: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """The tokens that enter the first block, ``(B, N, C)``."""
        raise NotImplementedError

    def _factors(self, grid: tuple[int, int], x: torch.Tensor) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
        """The rotary factors by the size of the windows, 0 for all tokens."""
        raise NotImplementedError

    def _finish(self, x: torch.Tensor) -> torch.Tensor:
        """What is behind the last block."""
        return x

    def _add_code(self, x: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        prefix, tokens = x[:, : self.num_prefix_tokens], x[:, self.num_prefix_tokens :]
        code = self.positional_encoding(self._as_map(x, grid))  # type: ignore[misc]
        tokens = tokens + code.flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, H * W, C)
        return torch.cat((prefix, tokens), dim=1) if self.num_prefix_tokens else tokens

    def _as_map(self, x: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        tokens = x[:, self.num_prefix_tokens :]
        return tokens.transpose(1, 2).reshape(x.shape[0], -1, *grid)  # (B, H * W, C) -> (B, C, H, W)

    def _check_size(self, x: torch.Tensor) -> None:
        if is_tracing_or_exporting():  # a check of the example's size would be frozen into the record
            return
        patch, sides = self.patch_size, tuple(x.shape[-2:])
        if any(side % patch or side == 0 for side in sides):
            fit = tuple(max(-(-side // patch), 1) * patch for side in sides)
            raise ValueError(f"spatial size {sides} must be divisible by {patch}; pad to {fit}.")
