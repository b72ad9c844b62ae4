# SPDX-License-Identifier: Apache-2.0
"""Position codes computed from the features."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["PositionalEncodingGenerator"]


class PositionalEncodingGenerator(nn.Module):
    """
    Compute a position code from features by a depthwise convolution (PEG), so that any image size works.

    The zero padding at the border is what tells positions apart. The caller adds the code to the features, or gives it
    to a decoder as the position encoding of the image. It starts at zero, so a pretrained network starts as it is.

    Source: Chu et al., "Conditional Positional Encodings for Vision Transformers", arXiv:2102.10882, section 3.3; its
    two places in SAM as in G-SAM, arXiv:2408.12406. Differs from the first in starting at zero.

    Args:
        channels: number of feature channels ``C``.
        kernel_size: odd kernel side, in feature-map pixels. Defaults to 3.

    Raises:
        ValueError: when ``kernel_size`` is even or not positive.
    """

    def __init__(self, channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and positive, got {kernel_size}.")
        self.conv = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: features, ``(B, C, H, W)``, any ``H, W >= 1``.

        Returns:
            the position code of each feature, ``(B, C, H, W)``.
        """
        return self.conv(x)
