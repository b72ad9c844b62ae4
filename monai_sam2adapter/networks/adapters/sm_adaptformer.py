# SPDX-License-Identifier: Apache-2.0
"""SM-AdaptFormer: G-SAM's bottleneck with convolutions at several scales."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .mlp import MLPAdapter
from .registry import register_adapter

__all__ = ["SMAdaptFormer"]

DILATIONS = (1, 12, 24, 36)


class _MultiScale(nn.Module):
    """The input, plus 3 x 3 convolutions at four dilations, plus the mean over all pixels; ReLU on what is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False) for dilation in DILATIONS
        )
        self.pooled = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = x + F.relu(self.pooled(x.mean(dim=(2, 3), keepdim=True)))
        for conv in self.convs:
            out = out + F.relu(conv(x))
        return out


@register_adapter("sm_adaptformer")
class SMAdaptFormer(MLPAdapter):
    """
    Spatial multi-scale AdaptFormer: project down, GELU, mix tokens at several scales, project up. Starts at zero.

    Beside the MLP of a block. The scales are a sum of the features themselves, 3 x 3 convolutions with dilations 1, 12,
    24 and 36, and the mean over the image through a 1 x 1 convolution; all are dense, and pass a ReLU.

    Source: G-SAM, arXiv:2408.12406.

    Args:
        channels: channels ``C`` of the tokens.
        config: the settings, :class:`~monai_sam2adapter.networks.adapters.AdapterConfig`. Defaults to the method's own.
    """

    def _spatial_layer(self, width: int) -> nn.Module:
        return _MultiScale(width)

    def _mix(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.spatial(self.act(hidden))
