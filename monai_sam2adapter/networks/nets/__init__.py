# SPDX-License-Identifier: Apache-2.0
"""Whole networks, one per file."""

from __future__ import annotations

from .adapted_sam2 import AdaptedSAM2
from .dinov2 import DINOV2_VARIANTS, build_dinov2
from .dinov3 import DINOv3Trunk
from .empty_prompt_encoder import EmptyPromptEncoder
from .encoders import ENCODER_VARIANTS, build_prompt_free, check_encoder_options, default_variant
from .hiera import HieraTrunk
from .image_encoder import SAM2ImageEncoder
from .mask_decoder import PromptFreeMaskDecoder
from .prompt_free import PromptFreeNetwork
from .prompt_free_sam2 import PromptFreeSAM2
from .prompt_free_vit import VIT_ENCODERS, PromptFreeViT
from .sam2_config import SAM2_VARIANTS, sam2_encoder_config
from .sam2_unet import SAM2UNet
from .sam2_unext import SAM2UNeXT
from .sam3 import SAM3Trunk
from .sam3_unet import SAM3UNet
from .vit import ViTTrunk

__all__ = [
    "DINOV2_VARIANTS",
    "ENCODER_VARIANTS",
    "SAM2_VARIANTS",
    "VIT_ENCODERS",
    "AdaptedSAM2",
    "DINOv3Trunk",
    "EmptyPromptEncoder",
    "HieraTrunk",
    "PromptFreeMaskDecoder",
    "PromptFreeNetwork",
    "PromptFreeSAM2",
    "PromptFreeViT",
    "SAM2ImageEncoder",
    "SAM2UNeXT",
    "SAM2UNet",
    "SAM3Trunk",
    "SAM3UNet",
    "ViTTrunk",
    "build_dinov2",
    "build_prompt_free",
    "check_encoder_options",
    "default_variant",
    "sam2_encoder_config",
]
