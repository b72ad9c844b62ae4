# SPDX-License-Identifier: Apache-2.0
"""DINOv3's vision transformers from timm, with slots for adapters."""

from __future__ import annotations

import math
import os
from typing import Any

import torch
from monai.utils import look_up_option, optional_import

from ...utils.logs import escaping_logger
from ..blocks import RotaryBlock
from ..layers import arange_like, rotary_factors
from ..weights import load_dinov3_checkpoint
from .hiera import LinspaceOnCPU
from .vit import ViTTrunk

__all__ = ["DINOv3Trunk"]

logger = escaping_logger(__name__)

DOWNLOAD = "timm"
_TEMPERATURE = 100.0


class DINOv3Trunk(ViTTrunk):
    """
    DINOv3's vision transformer: timm's own layers and names, adapter slots in every block, images of any size.

    It returns the map of the patch tokens behind the last norm. Without PEG's code and without adapters that equals
    what timm's ``forward_features`` gives. Register and class tokens go through the blocks and are dropped.

    Source: Simeoni et al., "DINOv3", arXiv:2508.10104; ``timm/models/eva.py`` (Apache-2.0), whose layers are taken
    over. Weights: DINOv3 License, https://ai.meta.com/resources/models-and-libraries/dinov3-license/.

    Args:
        variant: "small", "base" or "large". Defaults to "small".
        positional_encoding: "peg" or "rope" (the rotary positions alone). Defaults to "peg".
        activation_checkpointing: recompute each block in the backward pass to save memory. Defaults to False.

    Raises:
        ValueError: when ``variant`` or ``positional_encoding`` is unknown.
        ImportError: when timm is missing, or too old to have DINOv3.
    """

    variants = ("small", "base", "large")
    patch_size = 16
    advice = (
        "Give the path of timm's file of the variant, or 'timm' to let timm download it, as the checkpoint, in a "
        "bundle as sam2_checkpoint (DINOv3 License); or 'random' to try without weights."
    )

    def __init__(
        self, variant: str = "small", positional_encoding: str = "peg", activation_checkpointing: bool = False
    ) -> None:
        super().__init__(positional_encoding, activation_checkpointing)
        self.variant = look_up_option(variant, self.variants)
        model = _build(variant, pretrained=False)
        self.cls_token, self.reg_token = model.cls_token, model.reg_token
        self.num_prefix_tokens = model.num_prefix_tokens
        self.patch_embed = model.patch_embed
        self.add_blocks([_rotary_block(block, self.num_prefix_tokens) for block in model.blocks])
        self.norm = model.norm

    @classmethod
    def load(cls, net: Any, checkpoint: str | os.PathLike[str]) -> None:
        """
        Load DINOv3's weights.

        Args:
            net: a network with this trunk as ``image_encoder.trunk``, changed in place.
            checkpoint: path of a file of timm, or "timm" to let timm download its own.

        Raises:
            FileNotFoundError: when it is no file.
            RuntimeError: when timm cannot download.
            CheckpointError: when the file does not fit.
        """
        logger.info("DINOv3's weights are under the DINOv3 License: %s", _LICENSE)
        trunk = net.image_encoder.trunk
        if checkpoint != DOWNLOAD:
            load_dinov3_checkpoint(trunk, checkpoint)
            return
        try:
            tensors = _build(trunk.variant, pretrained=True).state_dict()
        except (OSError, RuntimeError) as error:
            raise RuntimeError(
                f"timm could not download DINOv3 {trunk.variant}: {str(error).splitlines()[0] if str(error) else error}"
                "; get the file elsewhere and give its path."
            ) from error
        trunk.load_state_dict(tensors, strict=False)

    def _embed(self, x: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2)  # (B, 3, H, W) -> (B, H * W / 16 / 16, C)
        prefix = torch.cat((self.cls_token, self.reg_token), dim=1).to(x.dtype)
        return torch.cat((prefix.expand(x.shape[0], -1, -1), x), dim=1)

    def _factors(self, grid: tuple[int, int], x: torch.Tensor) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
        like = x.new_zeros((), dtype=torch.float32)
        quarter = self.head_channels // 4
        periods = _TEMPERATURE ** (2.0 * arange_like(quarter, like) / (2 * quarter))
        # the middles of the patches, from -1 to 1 over the image
        y, x_ = (2 * (arange_like(side, like) + 0.5) / side - 1 for side in grid)
        rows, columns = torch.meshgrid(y, x_, indexing="ij")
        cosines, sines = rotary_factors(rows.flatten(), columns.flatten(), 2 * math.pi / periods, interleaved=False)
        still = cosines.new_ones(self.num_prefix_tokens, cosines.shape[1])  # tokens without a place are not turned
        return {0: (torch.cat((still, cosines)), torch.cat((0 * still, sines)))}

    def _finish(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x)


_LICENSE = "https://ai.meta.com/resources/models-and-libraries/dinov3-license/"


def _build(variant: str, pretrained: bool) -> Any:
    timm, found = optional_import("timm")
    if not found:
        raise ImportError("DINOv3 needs timm; install it with pip install 'monai-sam2adapter[dinov3]'.")
    name = f"vit_{variant}_patch16_dinov3"
    if not timm.is_model(name):
        raise ImportError(f"timm {timm.__version__} has no {name}; update it with pip install -U timm.")
    with LinspaceOnCPU():
        return timm.create_model(name, pretrained=pretrained, num_classes=0)


def _rotary_block(block: Any, num_prefix_tokens: int) -> RotaryBlock:
    """Take over the layers of timm's block."""
    layers = (block.norm1, block.attn, block.norm2, block.mlp, block.gamma_1, block.gamma_2)
    return RotaryBlock(*layers, num_prefix_tokens=num_prefix_tokens)
