# SPDX-License-Identifier: Apache-2.0
"""SAM3-UNet: SAM 3's trunk, frozen, in a light U-shaped network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..blocks import LightUpBlock
from .adapted_sam2 import AdaptedSAM2
from .adapter_options import AdapterSettings
from .frozen_dtype import in_frozen_dtype
from .sam3 import SAM3Trunk

__all__ = ["SAM3UNet"]

_WIDTH = 128  # channels of the decoder


class SAM3UNet(AdaptedSAM2):
    """
    SAM 3's trunk, frozen and adapted, and a light U-shaped decoder on its last map.

    The map is reduced to 128 channels four times, resized to a quarter to a 32nd of the image, and joined deepest
    first. There is one output, in training too.

    With adapter "bottleneck", 3 channels in and 1 out this is the authors' network, and on their weights its outputs
    equal theirs (:func:`~monai_sam2adapter.networks.weights.load_peer_checkpoint`). They use images of 336 x 336. It
    takes images of any size from 32 x 32 pixels, padded to a multiple of 14 inside and cropped.

    Source: Xiong et al., SAM3-UNet, arXiv:2512.01789, and its published definition. Not the authors' code.

    Args:
        variant: size of SAM 3: "large", the only one. Defaults to "large".
        adapter: a registered method, a list of several, "none" (only the decoder is trained) or "full" (no adapter, all
            weights are trained). Defaults to "bottleneck", the authors'.
        in_channels: channels of the images. 3 are taken as they are, 1 is repeated, others pass a trained 1 x 1
            convolution. Defaults to 3.
        out_channels: number of classes; 1 for a single sigmoid channel. Defaults to 1.
        checkpoint: path of SAM 3's weights, Meta's ``sam3.pt``. None leaves random weights. Defaults to None.
        freeze: parts that are not trained, of "image_encoder". None stands for all of them, or for none of them with
            ``adapter="full"``. Defaults to None.
        adapter_config: settings of the adapter; of several, a list of them or a dictionary by name. Defaults to None.
        activation_checkpointing: recompute trunk blocks in the backward pass to save memory. Defaults to False.

    Raises:
        ValueError: when an option is unknown or does not go with another one.
    """

    base_name, base_advice = "SAM 3", SAM3Trunk.advice
    variants, size_divisor = SAM3Trunk.variants, SAM3Trunk.patch_size
    #: the trunk's name in the authors' files, and what these hold without using it
    peer_trunk, peer_unused = "sam3_vit", ()

    def __init__(
        self,
        variant: str = "large",
        adapter: str | Sequence[str] = "bottleneck",
        in_channels: int = 3,
        out_channels: int = 1,
        checkpoint: str | None = None,
        freeze: Sequence[str] | None = None,
        adapter_config: AdapterSettings = None,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__(variant, adapter, in_channels, out_channels, freeze, adapter_config)
        trunk = SAM3Trunk(variant, "rope", activation_checkpointing)
        self.image_encoder = nn.ModuleDict({"trunk": trunk})
        channels = trunk.channels[-1]
        self.reduce1, self.reduce2, self.reduce3, self.reduce4 = (nn.Conv2d(channels, _WIDTH, 1) for _ in range(4))
        self.up1, self.up2, self.up3 = (LightUpBlock(2 * _WIDTH, _WIDTH) for _ in range(3))
        self.up4 = LightUpBlock(_WIDTH, _WIDTH)
        self.head = nn.Conv2d(_WIDTH, out_channels, 1)
        self._load_freeze_and_adapt(checkpoint, adapter, adapter_config)

    @in_frozen_dtype
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: images, ``(B, in_channels, H, W)``, any ``H, W >= 32``.

        Returns:
            logits, ``(B, out_channels, H, W)``.

        Raises:
            ValueError: when the shape does not fit.
        """
        image = self._pad(x)
        (features,) = self.image_encoder.trunk(image)
        reduces = (self.reduce1, self.reduce2, self.reduce3, self.reduce4)
        x1, x2, x3, x4 = (
            _resize(reduce(features), (image.shape[2] // stride, image.shape[3] // stride))
            for reduce, stride in zip(reduces, (4, 8, 16, 32), strict=True)
        )
        running = self.up1(self.up2(self.up3(self.up4(x4), x3), x2), x1)
        logits = _resize(self.head(running), (image.shape[2], image.shape[3]))
        return logits[..., : x.shape[-2], : x.shape[-1]]


def _resize(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
