# SPDX-License-Identifier: Apache-2.0
"""Maps of several scales from the one map of a plain vision transformer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from sam2.modeling.sam2_utils import LayerNorm2d
from torch import nn

__all__ = ["SimpleFeaturePyramid"]


class SimpleFeaturePyramid(nn.Module):
    """
    Three maps, four times, twice and once as fine as the one that they are made of, by transposed convolutions.

    Source: Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection", arXiv:2203.16527, section 3;
    layers are named as in SAM 3's files, whose neck has no norms.

    Args:
        in_channels: channels of the map.
        out_channels: channels of the three maps. Defaults to 256.
        norms: whether convolutions are followed by LayerNorm over the channels, as in the paper. Defaults to True.
    """

    def __init__(self, in_channels: int, out_channels: int = 256, norms: bool = True) -> None:
        super().__init__()

        def level(channels: int, ups: Mapping[str, nn.Module]) -> nn.Sequential:
            layers = {**ups, "conv_1x1": nn.Conv2d(channels, out_channels, 1)}
            layers |= {"norm_1x1": LayerNorm2d(out_channels)} if norms else {}
            layers |= {"conv_3x3": nn.Conv2d(out_channels, out_channels, 3, padding=1)}
            layers |= {"norm_3x3": LayerNorm2d(out_channels)} if norms else {}
            return nn.Sequential(OrderedDict(layers))

        half, quarter = in_channels // 2, in_channels // 4
        twice = {
            "dconv_2x2_0": nn.ConvTranspose2d(in_channels, half, 2, stride=2),
            **({"norm": LayerNorm2d(half)} if norms else {}),
            "act": nn.GELU(),
            "dconv_2x2_1": nn.ConvTranspose2d(half, quarter, 2, stride=2),
        }
        once = {"dconv_2x2": nn.ConvTranspose2d(in_channels, half, 2, stride=2)}
        self.convs = nn.ModuleList([level(quarter, twice), level(half, once), level(in_channels, {})])

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """
        Args:
            x: the map, ``(B, in_channels, H, W)``.

        Returns:
            three maps, fine to coarse, ``(B, out_channels, 4 H, 4 W)``, ``(..., 2 H, 2 W)`` and ``(..., H, W)``.
        """
        return [level(x) for level in self.convs]
