# SPDX-License-Identifier: Apache-2.0
"""The two convolutions of a decoder step."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["DoubleConv"]


class DoubleConv(nn.Module):
    """
    Twice a 3 x 3 convolution without bias, BatchNorm and ReLU.

    The names of its parameters are those of SAM2-UNet's released files.

    Args:
        in_channels: channels of the input.
        mid_channels: channels between the two.
        out_channels: channels of the output.
    """

    def __init__(self, in_channels: int, mid_channels: int, out_channels: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, mid_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(mid_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: features, ``(B, C_in, H, W)``.

        Returns:
            features, ``(B, C_out, H, W)``.
        """
        return self.double_conv(x)
