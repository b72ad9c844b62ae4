# SPDX-License-Identifier: Apache-2.0
"""SAM2-UNeXT: SAM 2's trunk and DINOv2, both frozen, in a U-shaped network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from ..blocks import BilinearUpBlock
from .adapted_sam2 import SIZE_DIVISOR, AdaptedSAM2
from .adapter_options import AdapterSettings
from .dinov2 import build_dinov2
from .frozen_dtype import in_frozen_dtype
from .hiera import HieraTrunk

__all__ = ["SAM2UNeXT"]

_WIDTH = 128  # channels of the decoder


class SAM2UNeXT(AdaptedSAM2):
    """
    SAM 2's trunk, frozen and adapted, beside a frozen DINOv2 of its own resolution, and a U-shaped decoder.

    DINOv2's last map is projected to the channels of each of SAM 2's four maps, resized to it, joined with it and
    reduced to 128 channels. There is one output, in training too.

    With adapter "bottleneck", 3 channels in and 1 out this is the authors' network, and on their weights its outputs
    equal theirs (:func:`~monai_sam2adapter.networks.weights.load_peer_checkpoint`). They use variant "large" of both,
    weights of SAM 2 (not 2.1), and images of 1024 x 1024. It takes images of any size from 32 x 32 pixels, padded to a
    multiple of 32 inside and cropped; DINOv2 sees the padded image, so that both see the same field.

    Source: Xiong et al., SAM2-UNeXT, arXiv:2508.03566. Not the authors' code.

    Args:
        variant: size of SAM 2: "tiny", "small", "base_plus" or "large". Defaults to "large".
        adapter: a registered method, a list of several, "none" (only the decoder is trained) or "full" (no adapter, all
            weights are trained). Defaults to "bottleneck", the authors'.
        in_channels: channels of the images. 3 are taken as they are, 1 is repeated, others pass a trained 1 x 1
            convolution. Defaults to 3.
        out_channels: number of classes; 1 for a single sigmoid channel. Defaults to 1.
        checkpoint: SAM 2's weights: a path, or a name of the catalog such as "sam2_hiera_large", which is downloaded if
            it was not before. None leaves random weights. Defaults to None.
        freeze: parts that are not trained, of "image_encoder" and "dino". None stands for all of them, or for none of
            them with ``adapter="full"``. Defaults to None.
        adapter_config: settings of the adapter; of several, a list of them or a dictionary by name. Defaults to None.
        activation_checkpointing: recompute trunk blocks in the backward pass to save memory. Defaults to False.
        dino_variant: size of DINOv2: "small", "base" or "large". Defaults to "large".
        dino_size: side of the square to which the image is resized for DINOv2, in pixels; a multiple of 14. Defaults to
            448.
        dino_checkpoint: DINOv2's weights: a path, or "timm" to let timm download its own. None leaves random weights.
            Defaults to None.
        sam_size: side of the square to which the image is resized for SAM 2, in pixels; a multiple of 32. The logits
            are resized back. None takes the image as it is. Defaults to None.

    Raises:
        ValueError: when an option is unknown or does not go with another one.
        ImportError: when timm is not installed.

    Example:
        >>> import torch
        >>> from monai_sam2adapter.networks.nets import SAM2UNeXT
        >>> net = SAM2UNeXT(variant="tiny", dino_variant="small", dino_size=56, out_channels=2).eval()
        >>> net(torch.rand(1, 3, 100, 75)).shape
        torch.Size([1, 2, 100, 75])
    """

    freezable_parts: ClassVar[tuple[str, ...]] = ("image_encoder", "dino")
    #: the trunk's name in the authors' files, and what these hold without using it
    peer_trunk, peer_unused = "sam", ()

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
        dino_variant: str = "large",
        dino_size: int = 448,
        dino_checkpoint: str | None = None,
        sam_size: int | None = None,
    ) -> None:
        super().__init__(variant, adapter, in_channels, out_channels, freeze, adapter_config)
        if sam_size is not None and (sam_size < SIZE_DIVISOR or sam_size % SIZE_DIVISOR):
            raise ValueError(f"sam_size must be a multiple of {SIZE_DIVISOR}, or None, got {sam_size}.")
        self.dino_variant, self.dino_size, self.dino_checkpoint = dino_variant, dino_size, dino_checkpoint
        self.sam_size = sam_size
        trunk = HieraTrunk(variant, "sam2", activation_checkpointing)
        self.image_encoder = nn.ModuleDict({"trunk": trunk})  # named as in SAM 2's files
        self.dino = build_dinov2(dino_variant, dino_size, dino_checkpoint)
        (dino_channels,) = self.dino.feature_info.channels()
        self.align1, self.align2, self.align3, self.align4 = (nn.Conv2d(dino_channels, c, 1) for c in trunk.channels)
        self.reduce1, self.reduce2, self.reduce3, self.reduce4 = (nn.Conv2d(2 * c, _WIDTH, 1) for c in trunk.channels)
        self.up1, self.up2, self.up3 = (BilinearUpBlock(2 * _WIDTH, _WIDTH, _WIDTH) for _ in range(3))
        self.up4 = BilinearUpBlock(_WIDTH, _WIDTH // 2, _WIDTH)
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
        self._check_input(x)
        image = self._pad(x if self.sam_size is None else _resize(x, (self.sam_size, self.sam_size)))
        x1, x2, x3, x4 = self._joined_maps(image)
        running = self.up4(x4)
        for up, skip in ((self.up3, x3), (self.up2, x2), (self.up1, x1)):
            running = up(torch.cat((running, skip), dim=1))
        logits = F.interpolate(self.head(running), scale_factor=2, mode="bilinear", align_corners=False)
        if self.sam_size is not None:
            return _resize(logits, x.shape[-2:])
        return logits[..., : x.shape[-2], : x.shape[-1]]

    @property
    def config(self) -> dict[str, Any]:
        """The settings that define the network's weights, as JSON can hold them."""
        own = {"dino_variant": self.dino_variant, "dino_size": self.dino_size, "sam_size": self.sam_size}
        return {**super().config, **own}

    def load_dinov2(self, checkpoint: str | os.PathLike[str]) -> None:
        """
        Load DINOv2's weights into a network that was built without them.

        Args:
            checkpoint: as ``dino_checkpoint`` of the class.

        Raises:
            FileNotFoundError: when it is no file.
            CheckpointError: when the file does not fit.
        """
        self.dino.load_state_dict(build_dinov2(self.dino_variant, self.dino_size, checkpoint).state_dict())
        self.dino_checkpoint = str(checkpoint)

    def sam2_state_names(self) -> set[str]:
        """Names in the state dict that are SAM 2's own, spelled as in its files."""
        return super().sam2_state_names() - {f"dino.{name}" for name in self.dino.state_dict()}

    def _pretrained_parts(self) -> dict[str, list[nn.Module]]:
        return {"image_encoder": [self.image_encoder], "dino": [self.dino]}

    def _joined_maps(self, image: torch.Tensor) -> list[torch.Tensor]:
        """The maps of SAM 2 joined with DINOv2's and reduced, ``(B, 128, H / s, W / s)`` for s = 4, 8, 16, 32."""
        dino = self.dino(_resize(image, (self.dino_size, self.dino_size)))[-1]
        aligns = (self.align1, self.align2, self.align3, self.align4)
        reduces = (self.reduce1, self.reduce2, self.reduce3, self.reduce4)
        return [
            reduce(torch.cat((sam, _resize(align(dino), sam.shape[-2:])), dim=1))
            for sam, align, reduce in zip(self.image_encoder.trunk(image), aligns, reduces, strict=True)
        ]


def _resize(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
