# SPDX-License-Identifier: Apache-2.0
"""A block of a vision transformer with rotary positions and slots for adapters."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..layers import apply_rotary
from .adapted_block import AdaptedBlock

__all__ = ["RotaryBlock"]


class RotaryBlock(AdaptedBlock):
    """
    A pre-norm block of a plain vision transformer, whose queries and keys are turned by their positions.

    It runs on a sequence: tokens without a place (class and register tokens), then those of the map, row by row.
    Adapters see maps, as in every block: those that look at each token by itself (``per_token``) get all tokens, as a
    map of one row; the others the map alone, and add nothing to the tokens without a place.

    With windows, the map is padded with zeros at the right and the bottom to whole windows, and the pad tokens attend,
    as in SAM 3. Adapters see the whole map, and add nothing to pad tokens.

    Args:
        norm1: norm in front of the attention.
        attn: module with the linear layers ``qkv`` and ``proj`` and the number ``num_heads``.
        norm2: norm in front of the MLP.
        mlp: the MLP, ``(..., C)`` to the same shape.
        gamma_1: factor on the output of the attention, ``(C,)``. Defaults to none.
        gamma_2: factor on the output of the MLP, ``(C,)``. Defaults to none.
        num_prefix_tokens: tokens without a place. Defaults to 0.
        window_size: tokens in a side of the attention's windows; 0 for attention over all. Defaults to 0.
        interleaved: see :func:`~monai_sam2adapter.networks.layers.apply_rotary`. Defaults to False.

    Raises:
        ValueError: when there are tokens without a place, and windows, in which they have none either.
    """

    def __init__(
        self,
        norm1: nn.Module,
        attn: Any,
        norm2: nn.Module,
        mlp: nn.Module,
        gamma_1: nn.Parameter | None = None,
        gamma_2: nn.Parameter | None = None,
        num_prefix_tokens: int = 0,
        window_size: int = 0,
        interleaved: bool = False,
    ) -> None:
        super().__init__()
        if num_prefix_tokens and window_size:
            raise ValueError(f"windows have no place for {num_prefix_tokens} prefix tokens; take window_size 0.")
        self.dim = self.dim_out = attn.proj.out_features
        self.num_prefix_tokens, self.window_size, self.interleaved = num_prefix_tokens, window_size, interleaved
        self.norm1, self.attn, self.gamma_1 = norm1, attn, gamma_1
        self.norm2, self.mlp, self.gamma_2 = norm2, mlp, gamma_2
        self.add_slots()

    def forward(
        self, x: torch.Tensor, grid: tuple[int, int], factors: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """
        Args:
            x: tokens, ``(B, P + H * W, C)``, the ``P`` prefix tokens first.
            grid: ``(H, W)``.
            factors: cosines and sines, ``(N, C / num_heads)`` each, of all tokens of the sequence, or of a window.

        Returns:
            tokens, ``(B, P + H * W, C)``.
        """
        for adapter in self._adapters_in("block"):
            x = x + self._adapt(adapter, x, grid)
        x = x + _scaled(self._attend(self.norm1(x), grid, factors), self.gamma_1)
        normalized = self.norm2(x)
        x = x + _scaled(self.mlp(normalized), self.gamma_2)
        for adapter in self._adapters_in("mlp"):
            x = x + self._adapt(adapter, normalized, grid)
        return x

    def _adapt(self, adapter: Any, x: torch.Tensor, grid: tuple[int, int], *args: str) -> torch.Tensor:
        """What an adapter adds to a sequence."""
        if adapter.per_token:
            return adapter(x.unsqueeze(1), *args).squeeze(1)
        prefix = self.num_prefix_tokens
        tokens = x[:, prefix:] if prefix else x
        out = adapter(tokens.reshape(x.shape[0], *grid, -1), *args).flatten(1, 2)
        return F.pad(out, (0, 0, prefix, 0)) if prefix else out

    def _attend(
        self, x: torch.Tensor, grid: tuple[int, int], factors: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        out = (
            self._attend_in_windows(x, grid, factors)
            if self.window_size
            else self._softmax(self._qkv(x, x, grid), factors)
        )
        projected = self.attn.proj(out)
        for adapter in self._adapters_in("attention"):
            projected = projected + self._adapt(adapter, out, grid, "proj")
        return projected

    def _qkv(self, padded: torch.Tensor, x: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Queries, keys and values of a sequence, or of a map that is padded."""
        qkv = self.attn.qkv(padded)
        for adapter in self._adapters_in("attention"):
            added = self._adapt(adapter, x, grid, "qkv")
            qkv = qkv + (added if padded is x else _padded(added, grid, padded.shape[1], padded.shape[2]))
        return qkv

    def _attend_in_windows(
        self, x: torch.Tensor, grid: tuple[int, int], factors: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        size, batch, (height, width) = self.window_size, x.shape[0], grid
        # whether there is anything to pad is not asked: a recorded pass would keep the answer
        rows, columns = ((side + size - 1) // size for side in grid)
        qkv = self._qkv(_padded(x, grid, rows * size, columns * size), x, grid)
        windows = qkv.reshape(batch, rows, size, columns, size, -1).transpose(2, 3)
        out = self._softmax(windows.reshape(batch * rows * columns, size * size, -1), factors)
        out = out.reshape(batch, rows, columns, size, size, -1).transpose(2, 3)
        out = out.reshape(batch, rows * size, columns * size, -1)
        return out.narrow(1, 0, height).narrow(2, 0, width).flatten(1, 2)

    def _softmax(self, qkv: torch.Tensor, factors: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Attention among the tokens of each sequence, ``(B, N, 3 C)`` to ``(B, N, C)``."""
        batch, tokens, _ = qkv.shape
        parts = qkv.reshape(batch, tokens, 3, self.attn.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = parts.unbind(0)  # (B, heads, N, channels per head)
        q, k = apply_rotary(q, factors, self.interleaved), apply_rotary(k, factors, self.interleaved)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, -1)


def _scaled(x: torch.Tensor, factor: torch.Tensor | None) -> torch.Tensor:
    return x if factor is None else factor * x


def _padded(x: torch.Tensor, grid: tuple[int, int], height: int, width: int) -> torch.Tensor:
    """A sequence ``(B, H * W, C)`` as a map that is padded with zeros."""
    x = x.reshape(x.shape[0], *grid, -1)
    return F.pad(x, (0, 0, 0, width - grid[1], 0, height - grid[0]))
