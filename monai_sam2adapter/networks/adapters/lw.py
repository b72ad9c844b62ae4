# SPDX-License-Identifier: Apache-2.0
"""LW-Adapter: light weight by structural re-parameterization."""

from __future__ import annotations

from torch import nn

from ..layers import RepConv2d
from .mlp import MLPAdapter
from .registry import register_adapter

__all__ = ["LWAdapter"]


@register_adapter("lw")
class LWAdapter(MLPAdapter):
    """
    Lightweight Adapter: a bottleneck with a depthwise block of parallel 3 x 3, 1 x 1 and identity branches.

    :func:`~monai_sam2adapter.networks.utils.reparameterize_model` fuses the branches into one depthwise convolution for
    inference, with the same output.

    Source: Mitsuoka & Hotta, arXiv:2605.05979 (LW-Adapter). Placement and widths are not public; ours are in
    docs/design.md.

    Args:
        channels: channels ``C`` of the tokens.
        config: the settings, :class:`~monai_sam2adapter.networks.adapters.AdapterConfig`. Defaults to the method's own.
    """

    def _spatial_layer(self, width: int) -> nn.Module:
        return RepConv2d(width, width, groups=width)
