# SPDX-License-Identifier: Apache-2.0
"""Whole networks, one per file."""

from __future__ import annotations

from .adapted_sam2 import AdaptedSAM2
from .dinov2 import DINOV2_VARIANTS, build_dinov2
from .empty_prompt_encoder import EmptyPromptEncoder
from .hiera import HieraTrunk
from .image_encoder import SAM2ImageEncoder
from .mask_decoder import PromptFreeMaskDecoder
from .prompt_free_sam2 import PromptFreeSAM2
from .sam2_config import SAM2_VARIANTS, sam2_encoder_config
from .sam2_unet import SAM2UNet
from .sam2_unext import SAM2UNeXT

__all__ = [
    "DINOV2_VARIANTS",
    "SAM2_VARIANTS",
    "AdaptedSAM2",
    "EmptyPromptEncoder",
    "HieraTrunk",
    "PromptFreeMaskDecoder",
    "PromptFreeSAM2",
    "SAM2ImageEncoder",
    "SAM2UNeXT",
    "SAM2UNet",
    "build_dinov2",
    "sam2_encoder_config",
]
