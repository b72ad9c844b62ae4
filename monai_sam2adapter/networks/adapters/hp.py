# SPDX-License-Identifier: Apache-2.0
"""HP-Adapter: high performance by deformable convolution."""

from __future__ import annotations

from torch import nn

from ..layers import ModulatedDeformConv2d
from .mlp import MLPAdapter
from .registry import register_adapter

__all__ = ["HPAdapter"]


@register_adapter("hp")
class HPAdapter(MLPAdapter):
    """
    High-Performance Adapter: a bottleneck with a modulated deformable 3 x 3 convolution, beside the MLP of a block.

    Source: Mitsuoka & Hotta, arXiv:2605.05979 (HP-Adapter). Placement and widths are not public; ours are in
    docs/design.md.

    Args:
        channels: channels ``C`` of the tokens.
        config: the settings, :class:`~monai_sam2adapter.networks.adapters.AdapterConfig`. Defaults to the method's own.
    """

    def _spatial_layer(self, width: int) -> nn.Module:
        return ModulatedDeformConv2d(width, width)
