# SPDX-License-Identifier: Apache-2.0
"""SAM 2's Hiera block with slots for adapters and with window attention that needs no padding."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from sam2.modeling.backbones.hieradet import MultiScaleBlock, do_pool

from ..layers import is_tracing_or_exporting
from .adapted_block import AdaptedBlock

__all__ = ["HieraBlock", "pads_windows"]


def pads_windows(device: torch.device) -> bool:
    """
    Whether padding the token map to whole windows is the faster way on a device (measured: docs/performance.md).

    On CUDA it is: what counts there is the number of kernels, 167 instead of 258 for the encoder of tiny at 256 x 256.
    On a CPU the number of operations counts, and there are up to 1.4 times fewer of them without padding.
    """
    return device.type == "cuda"


class HieraBlock(AdaptedBlock):
    """
    A transformer block of SAM 2's trunk that takes over the layers of sam2's own block, names unchanged.

    An adapter in ``"attention"`` sees the whole token map, not a window of it, and adds nothing to pad tokens.

    sam2 pads the token map with zeros to whole windows, and the pad tokens attend. All pad tokens of a window have the
    same key and value (the bias of ``qkv``), so one extra key and value whose logit is raised by the logarithm of their
    number gives the same softmax. The block attends over the real tokens and that one token, which saves the projection
    and the attention of all others. It also takes more and smaller kernels, and a mask, which shuts out the fastest
    attention of a GPU: :func:`pads_windows` says where the block pads as sam2 does. Since the windows at the border
    have shapes that depend on the image size, tracing and export take the padded path, too.

    Source: ``sam2/modeling/backbones/hieradet.py`` (Apache-2.0); differs in the points above.

    Args:
        block: sam2's block, whose layers are taken over, not copied.
        pad_windows: whether to pad the token map as sam2 does, with the same output. None stands for
            :func:`pads_windows` of the device. Defaults to None.
    """

    def __init__(self, block: MultiScaleBlock, pad_windows: bool | None = None) -> None:
        super().__init__()
        self.dim, self.dim_out = block.dim, block.dim_out
        self.window_size, self.q_stride = block.window_size, block.q_stride
        self.pad_windows = pad_windows
        self.norm1, self.attn, self.norm2, self.mlp = block.norm1, block.attn, block.norm2, block.mlp
        self.pool, self.drop_path = block.pool, block.drop_path
        if self.dim != self.dim_out:
            self.proj = block.proj
        self.add_slots()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: tokens, ``(B, H, W, C)``; ``H`` and ``W`` even where the block halves the map.

        Returns:
            tokens, ``(B, H / s, W / s, C_out)`` with ``s`` = 2 where the block halves the map, else 1.
        """
        for adapter in self._adapters_in("block"):
            x = x + adapter(x)
        normalized = self.norm1(x)
        shortcut = x if self.dim == self.dim_out else do_pool(self.proj(normalized), self.pool)
        x = shortcut + self.drop_path(self._attend(normalized))
        normalized = self.norm2(x)
        x = x + self.drop_path(self.mlp(normalized))
        for adapter in self._adapters_in("mlp"):
            x = x + adapter(normalized)
        return x

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        if self.window_size == 0:
            return self._proj(self._attend_in_windows(self._qkv(x), x.shape[1], x.shape[2]))
        if is_tracing_or_exporting():
            return self._attend_padded(x)
        if x.shape[1] % self.window_size == 0 and x.shape[2] % self.window_size == 0:
            if not self._has_attention_adapters():
                return self._attend_in_whole_windows(x)
            return self._proj(self._attend_in_windows(self._qkv(x), self.window_size, self.window_size))
        pad = pads_windows(x.device) if self.pad_windows is None else self.pad_windows
        return self._attend_padded(x) if pad else self._proj(self._attend_unpadded(x))

    def _qkv(self, x: torch.Tensor, padding: tuple[int, ...] | None = None) -> torch.Tensor:
        """Queries, keys and values of the padded map; to pad tokens, adapters add nothing."""
        qkv = self.attn.qkv(_pad(x, padding))
        for adapter in self._adapters_in("attention"):
            qkv = qkv + _pad(adapter(x, "qkv"), padding)
        return qkv

    def _proj(self, x: torch.Tensor) -> torch.Tensor:
        out = self.attn.proj(x)
        for adapter in self._adapters_in("attention"):
            out = out + adapter(x, "proj")
        return out

    def _attend_padded(self, x: torch.Tensor) -> torch.Tensor:
        """sam2's way: pad to whole windows, attend in each, cut off the padding."""
        height, width = x.shape[1:3]
        stride = self.q_stride[0] if self.q_stride else 1
        # sam2 asks first whether there is anything to pad or to cut; a recorded pass would keep the answer.
        # (In ONNX the division of a negative number rounds up, so all numbers are kept positive.)
        size = self.window_size
        rows, columns = ((side + size - 1) // size * size for side in (height, width))
        padding = (0, 0, 0, columns - width, 0, rows - height)
        if self._has_attention_adapters():
            out = self._attend_in_windows(self._qkv(x, padding), size, size)
            return self._proj(out.narrow(1, 0, height // stride).narrow(2, 0, width // stride))
        out = self._attend_in_whole_windows(F.pad(x, padding))
        return out.narrow(1, 0, height // stride).narrow(2, 0, width // stride)

    def _attend_in_whole_windows(self, x: torch.Tensor) -> torch.Tensor:
        """As sam2 does: windows of tokens are a third to copy of those of queries, keys and values."""
        batch, height, width, channels = x.shape
        size = self.window_size
        rows, columns = height // size, width // size
        windows = x.reshape(batch, rows, size, columns, size, channels).transpose(2, 3)
        out = self.attn(windows.reshape(-1, size, size, channels))
        size = size // self.q_stride[0] if self.q_stride else size
        out = out.reshape(batch, rows, columns, size, size, -1).transpose(2, 3)
        return out.reshape(batch, rows * size, columns * size, -1)

    def _attend_unpadded(self, x: torch.Tensor) -> torch.Tensor:
        """Attend in the whole windows, and in the smaller ones that the right and the lower border cut off."""
        qkv, size = self._qkv(x), self.window_size
        rows = []
        for top, bottom in self._bands(x.shape[1]):
            win_h = min(bottom - top, size)
            row = [
                self._attend_in_windows(qkv[:, top:bottom, left:right], win_h, min(right - left, size), cut=True)
                for left, right in self._bands(x.shape[2])
            ]
            rows.append(torch.cat(row, dim=2))
        return torch.cat(rows, dim=1)

    def _bands(self, size: int) -> list[tuple[int, int]]:
        """Cut one axis into the part that whole windows cover and the rest, leaving out what is empty."""
        covered = size - size % self.window_size
        return [band for band in ((0, covered), (covered, size)) if band[0] < band[1]]

    def _attend_in_windows(self, qkv: torch.Tensor, win_h: int, win_w: int, cut: bool = False) -> torch.Tensor:
        """Attend in windows of one shape, which may be cut: ``(B, H, W, 3 C)`` to ``(B, H / s, W / s, C)``."""
        batch, height, width, _ = qkv.shape
        rows, columns, tokens = height // win_h, width // win_w, win_h * win_w
        windows = qkv.reshape(batch, rows, win_h, columns, win_w, -1).transpose(2, 3)
        windows = windows.reshape(batch * rows * columns, tokens, 3, self.attn.num_heads, -1)
        q, k, v = (part.transpose(1, 2) for part in windows.unbind(2))  # (windows, heads, tokens, channels per head)
        if self.q_stride:
            q = self._pool_queries(q, win_h, win_w)
            win_h, win_w = win_h // self.q_stride[0], win_w // self.q_stride[1]
        bias = None
        if cut and tokens < self.window_size**2:
            k, v, bias = self._append_pad_token(k, v)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        out = out.transpose(1, 2).reshape(batch, rows, columns, win_h, win_w, -1).transpose(2, 3)
        return out.reshape(batch, rows * win_h, columns * win_w, -1)

    def _pool_queries(self, q: torch.Tensor, win_h: int, win_w: int) -> torch.Tensor:
        """Max-pool the queries of each window, which keeps windows apart since their sides are even."""
        windows, heads = q.shape[:2]
        q = q.transpose(1, 2).reshape(windows, win_h, win_w, -1)
        return do_pool(q, self.pool).reshape(windows, -1, heads, self.dim_out // heads).transpose(1, 2)

    def _append_pad_token(self, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Add the one key and value that stand for all pad tokens of a window, and the bias that counts them."""
        windows, heads, tokens, channels = k.shape
        pad_kv = self.attn.qkv.bias.to(k.dtype).reshape(3, 1, heads, 1, channels).expand(-1, windows, -1, -1, -1)
        bias = k.new_zeros(tokens + 1)
        bias[-1] = math.log(self.window_size**2 - tokens)
        return torch.cat((k, pad_kv[1]), dim=2), torch.cat((v, pad_kv[2]), dim=2), bias.expand(1, 1, 1, -1)


def _pad(x: torch.Tensor, padding: tuple[int, ...] | None) -> torch.Tensor:
    # not by nothing, which would copy
    return x if padding is None else F.pad(x, padding)
