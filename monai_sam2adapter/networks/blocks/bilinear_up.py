# SPDX-License-Identifier: Apache-2.0
"""A step of SAM2-UNet's and of SAM2-UNeXT's decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .double_conv import DoubleConv

__all__ = ["BilinearUpBlock"]


class BilinearUpBlock(nn.Module):
    """
    Enlarge a map to twice its size (bilinear, corners aligned), join a skip connection, convolve twice.

    Source: Xiong et al., SAM2-UNet, arXiv:2408.08870; without a skip, a step of SAM2-UNeXT, arXiv:2508.03566.

    Args:
        in_channels: channels of the map and of the skip together.
        mid_channels: channels between the two convolutions.
        out_channels: channels of the output.
    """

    def __init__(self, in_channels: int, mid_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = DoubleConv(in_channels, mid_channels, out_channels)

    def forward(self, x: torch.Tensor, skip: torch.Tensor | None = None) -> torch.Tensor:
        """
        Args:
            x: the map to enlarge, ``(B, C, H, W)``.
            skip: the map to join after that, ``(B, C_skip, 2 H, 2 W)``. Defaults to None.

        Returns:
            features, ``(B, C_out, 2 H, 2 W)``.
        """
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        return self.conv(x if skip is None else torch.cat((skip, x), dim=1))
