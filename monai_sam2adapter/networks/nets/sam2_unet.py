# SPDX-License-Identifier: Apache-2.0
"""SAM2-UNet: SAM 2's trunk, frozen, in a U-shaped network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..blocks import BilinearUpBlock, ReceptiveFieldBlock
from .adapted_sam2 import AdaptedSAM2
from .adapter_options import AdapterSettings
from .frozen_dtype import in_frozen_dtype
from .hiera import HieraTrunk

__all__ = ["SAM2UNet"]

_WIDTH = 64  # channels of the decoder


class SAM2UNet(AdaptedSAM2):
    """
    SAM 2's trunk, frozen and adapted, receptive-field blocks, and a U-shaped decoder with deep supervision.

    With adapter "bottleneck", 3 channels in and 1 out this is the authors' network, and on their weights its outputs
    equal theirs (:func:`~monai_sam2adapter.networks.weights.load_peer_checkpoint`). They use variant "large". It takes
    images of any size from 32 x 32 pixels, padded to a multiple of 32 inside and cropped.

    Source: Xiong et al., SAM2-UNet, arXiv:2408.08870. Not the authors' code.

    Args:
        variant: size of SAM 2: "tiny", "small", "base_plus" or "large". Defaults to "large".
        adapter: a registered method, a list of several, "none" (only the decoder is trained) or "full" (no adapter, all
            weights are trained). Defaults to "bottleneck", the authors'.
        in_channels: channels of the images. 3 are taken as they are, 1 is repeated, others pass a trained 1 x 1
            convolution. Defaults to 3.
        out_channels: number of classes; 1 for a single sigmoid channel. Defaults to 1.
        checkpoint: SAM 2's weights: a path, or a name of the catalog such as "sam2_hiera_large", which is downloaded if
            it was not before. None leaves random weights. Defaults to None.
        freeze: parts that are not trained, of "image_encoder". None stands for all of them, or for none of them with
            ``adapter="full"``. Defaults to None.
        adapter_config: settings of the adapter; of several, a list of them or a dictionary by name. Defaults to None.
        activation_checkpointing: recompute trunk blocks in the backward pass to save memory. Defaults to False.

    Raises:
        ValueError: when an option is unknown or does not go with another one.

    Example:
        >>> import torch
        >>> from monai_sam2adapter.networks.nets import SAM2UNet
        >>> net = SAM2UNet(variant="tiny", out_channels=2)
        >>> [tuple(logits.shape) for logits in net(torch.rand(2, 3, 100, 75))]
        [(2, 2, 100, 75), (2, 2, 100, 75), (2, 2, 100, 75)]
        >>> net.eval()(torch.rand(1, 3, 100, 75)).shape
        torch.Size([1, 2, 100, 75])
    """

    #: the trunk's name in the authors' files, and what these hold without using it
    peer_trunk, peer_unused = "encoder", ("up4.",)

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
        trunk = HieraTrunk(variant, "sam2", activation_checkpointing)
        self.image_encoder = nn.ModuleDict({"trunk": trunk})  # named as in SAM 2's files
        fields = [ReceptiveFieldBlock(channels, _WIDTH) for channels in trunk.channels]
        self.rfb1, self.rfb2, self.rfb3, self.rfb4 = fields
        self.up1, self.up2, self.up3 = (BilinearUpBlock(2 * _WIDTH, _WIDTH, _WIDTH) for _ in range(3))
        self.side1, self.side2, self.head = (nn.Conv2d(_WIDTH, out_channels, 1) for _ in range(3))
        self._load_freeze_and_adapt(checkpoint, adapter, adapter_config)

    @in_frozen_dtype
    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """
        Args:
            x: images, ``(B, in_channels, H, W)``, any ``H, W >= 32``.

        Returns:
            logits, ``(B, out_channels, H, W)``. In training a list of three of this shape, from the last to the first
            step of the decoder, as ``monai.losses.DeepSupervisionLoss`` takes it.

        Raises:
            ValueError: when the shape does not fit.
        """
        x1, x2, x3, x4 = self.image_encoder.trunk(self._pad(x))
        deep = self.up1(self.rfb4(x4), self.rfb3(x3))
        middle = self.up2(deep, self.rfb2(x2))
        logits = _resize(self.head(self.up3(middle, self.rfb1(x1))), 4, x)
        if not self.training:
            return logits
        return [logits, _resize(self.side1(deep), 16, x), _resize(self.side2(middle), 8, x)]


def _resize(logits: torch.Tensor, stride: int, image: torch.Tensor) -> torch.Tensor:
    """Enlarge logits to the padded image and crop them to the image."""
    logits = F.interpolate(logits, scale_factor=stride, mode="bilinear", align_corners=False)
    return logits[..., : image.shape[-2], : image.shape[-1]]
