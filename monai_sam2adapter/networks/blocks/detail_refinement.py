# SPDX-License-Identifier: Apache-2.0
"""Fine features of the image, for features of a coarse grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["DetailRefinement"]


class DetailRefinement(nn.Module):
    """
    What two convolutions see in features and in the image, on a grid that is finer than that of the features.

    It is meant to be added to the interpolated features, and starts at zero. What an encoder of stride 4 has lost,
    lines of one to three pixels, comes from the image; which of them count, from the features.

    Args:
        channels: channels of the features.
        in_channels: channels of the image.
        scale: how many times finer the grid becomes, 2 or 4.
        stride: pixels of the image in a step of the finer grid, 1 or 2.
    """

    def __init__(self, channels: int, in_channels: int, scale: int, stride: int) -> None:
        super().__init__()
        self.scale = scale
        # 3 or 4 pixels: the shape of the weights tells the stride that they were trained for
        self.detail = nn.Conv2d(in_channels, channels // 2, kernel_size=stride + 2, stride=stride, padding=1)
        self.fuse = nn.Conv2d(channels + channels // 2, channels, kernel_size=3, padding=1)
        self.project = nn.Conv2d(channels, channels, kernel_size=1)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: features, ``(B, C, H, W)``.
            image: the image, ``(B, in_channels, scale * stride * H, scale * stride * W)``.

        Returns:
            what to add, ``(B, C, scale * H, scale * W)``.
        """
        x = F.interpolate(x, scale_factor=float(self.scale), mode="bilinear", align_corners=False)
        detail = F.gelu(self.detail(image))
        return self.project(F.gelu(self.fuse(torch.cat([x, detail], dim=1))))
