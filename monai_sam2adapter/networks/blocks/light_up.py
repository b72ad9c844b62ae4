# SPDX-License-Identifier: Apache-2.0
"""A step of SAM3-UNet's decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["LightUpBlock"]


class LightUpBlock(nn.Module):
    """
    Join a map with a skip connection, enlarge both to twice their size (bilinear, corners aligned), convolve lightly.

    The convolutions: 1 x 1 to a quarter of the channels; one half of these twice through a depthwise 3 x 3; 1 x 1 over
    both halves and the two results. The BatchNorms behind the 1 x 1 have an ``eps`` of 1, as the authors' do. The names
    of its parameters are theirs.

    Source: Xiong et al., SAM3-UNet, arXiv:2512.01789, and its published definition. Not the authors' code.

    Args:
        in_channels: channels of the map and of the skip together; a multiple of 8.
        out_channels: channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        eighth = in_channels // 8

        def pointwise(channels: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(channels, outputs, 1), nn.BatchNorm2d(outputs, eps=1), nn.GELU())

        def depthwise() -> nn.Sequential:
            conv = nn.Conv2d(eighth, eighth, 3, padding=1, groups=eighth)
            return nn.Sequential(conv, nn.BatchNorm2d(eighth), nn.GELU())

        parts = {"conv_in": pointwise(in_channels, 2 * eighth), "conv_out": pointwise(4 * eighth, out_channels)}
        self.conv = nn.ModuleDict({**parts, "dw1": depthwise(), "dw2": depthwise()})

    def forward(self, x: torch.Tensor, skip: torch.Tensor | None = None) -> torch.Tensor:
        """
        Args:
            x: the map, ``(B, C, H, W)``.
            skip: the map to join, ``(B, C_skip, H, W)``, or a larger one, of which the middle is taken, as the authors
                do. Defaults to None.

        Returns:
            features, ``(B, C_out, 2 H, 2 W)``.
        """
        if skip is not None:
            height, width = x.shape[2:]
            top, left = (skip.shape[2] - height + 1) // 2, (skip.shape[3] - width + 1) // 2
            skip = skip.narrow(2, top, height).narrow(3, left, width)
            x = torch.cat((x, skip), dim=1)
        x = self.conv["conv_in"](F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))
        _, half = x.chunk(2, dim=1)
        once = self.conv["dw1"](half)
        return self.conv["conv_out"](torch.cat((x, once, self.conv["dw2"](once)), dim=1))
