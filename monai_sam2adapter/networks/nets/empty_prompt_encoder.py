# SPDX-License-Identifier: Apache-2.0
"""What SAM 2's prompt encoder gives when there is no prompt."""

from __future__ import annotations

import math

import torch
from sam2.modeling.position_encoding import PositionEmbeddingRandom
from torch import nn

from ..layers import arange_like

__all__ = ["EmptyPromptEncoder"]


class EmptyPromptEncoder(nn.Module):
    """
    The two parts of SAM 2's prompt encoder that work without a prompt, under sam2's names.

    These are the embedding that stands for "no mask given", and the random-Fourier position encoding of the image.

    Source: ``sam2/modeling/sam/prompt_encoder.py`` (Apache-2.0).

    Args:
        embed_dim: channels of the image embedding. Defaults to 256.
    """

    def __init__(self, embed_dim: int = 256) -> None:
        super().__init__()
        self.pe_layer = PositionEmbeddingRandom(embed_dim // 2)
        self.no_mask_embed = nn.Embedding(1, embed_dim)

    def dense_embedding(self) -> torch.Tensor:
        """The embedding that is added to every position of the image embedding, ``(1, C, 1, 1)``."""
        return self.no_mask_embed.weight[:, :, None, None]

    def dense_positions(self, features: torch.Tensor) -> torch.Tensor:
        """The position encoding of an image embedding ``(B, C, H, W)``, ``(1, C, H, W)``."""
        # In float32 as sam2's own layer, which fails where a half-precision network has cast its matrix.
        matrix = self.pe_layer.positional_encoding_gaussian_matrix.float()
        y, x = (2 * (arange_like(side, matrix) + 0.5) / side - 1 for side in features.shape[-2:])
        angles = 2 * math.pi * torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1) @ matrix  # (H, W, C / 2)
        return torch.cat((angles.sin(), angles.cos()), dim=-1).permute(2, 0, 1).to(features.dtype).unsqueeze(0)
