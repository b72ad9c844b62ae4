# SPDX-License-Identifier: Apache-2.0
"""SAM 2's image encoder: trunk and feature pyramid."""

from __future__ import annotations

import torch
from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
from torch import nn

from ..layers import is_autocast
from .hiera import HieraTrunk
from .sam2_config import sam2_encoder_config

__all__ = ["SAM2ImageEncoder"]


class SAM2ImageEncoder(ImageEncoder):
    """
    SAM 2's image encoder, which returns its three feature maps and no sine position encodings (only sam2's memory needs
    them).

    Source: ``sam2/modeling/backbones/image_encoder.py`` (Apache-2.0).

    Args:
        variant: "tiny", "small", "base_plus" or "large".
        positional_encoding: "peg" or "sam2". Defaults to "peg".
        activation_checkpointing: recompute each block in the backward pass to save memory. Defaults to False.
        pad_windows: pad windows as sam2 does, see :class:`~monai_sam2adapter.networks.blocks.HieraBlock`. Defaults to
            None: on CUDA.

    Raises:
        ValueError: when ``variant`` or ``positional_encoding`` is unknown.
    """

    strides = (4, 8, 16)

    def __init__(
        self,
        variant: str,
        positional_encoding: str = "peg",
        activation_checkpointing: bool = False,
        pad_windows: bool | None = None,
    ) -> None:
        trunk = HieraTrunk(variant, positional_encoding, activation_checkpointing, pad_windows)
        neck = FpnNeck(position_encoding=nn.Identity(), **sam2_encoder_config(variant)["neck"])
        super().__init__(trunk, neck, scalp=1)
        self.channels = (neck.d_model,) * 3

    def forward(self, sample: torch.Tensor) -> list[torch.Tensor]:
        """
        Args:
            sample: images, ``(B, 3, H, W)``; ``H`` and ``W`` multiples of 32.

        Returns:
            three maps, shallow to deep, ``(B, 256, H / strides[i], W / strides[i])``.
        """
        features, _ = self.neck(self.trunk(sample))
        if not is_autocast(sample):
            features = [feature.to(sample.dtype) for feature in features]  # the neck sums in float32 in any network
        return features[: -self.scalp]
