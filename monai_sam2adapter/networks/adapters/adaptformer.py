# SPDX-License-Identifier: Apache-2.0
"""AdaptFormer: the plain bottleneck."""

from __future__ import annotations

from torch import nn

from .mlp import MLPAdapter
from .registry import register_adapter

__all__ = ["AdaptFormer"]


@register_adapter("adaptformer")
class AdaptFormer(MLPAdapter):
    """
    Project down, GELU, project up, beside the MLP of a block; each token by itself. Starts at zero.

    Source: Chen et al., "AdaptFormer", arXiv:2205.13535, in the form in which G-SAM (arXiv:2408.12406) compares with
    it: on the normalized input, with GELU in place of ReLU, a fixed scale and no norm of its own.

    Args:
        channels: channels ``C`` of the tokens.
        config: the settings, :class:`~monai_sam2adapter.networks.adapters.AdapterConfig`. Defaults to the method's own.
    """

    per_token = True

    def _spatial_layer(self, width: int) -> nn.Module:
        return nn.Identity()
