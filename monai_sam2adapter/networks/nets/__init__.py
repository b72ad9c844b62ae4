# SPDX-License-Identifier: Apache-2.0
"""Whole networks, one per file."""

from __future__ import annotations

from .adapted_sam2 import AdaptedSAM2
from .empty_prompt_encoder import EmptyPromptEncoder
from .hiera import HieraTrunk
from .image_encoder import SAM2ImageEncoder
from .mask_decoder import PromptFreeMaskDecoder
from .prompt_free_sam2 import PromptFreeSAM2
from .sam2_config import SAM2_VARIANTS, sam2_encoder_config

__all__ = [
    "SAM2_VARIANTS",
    "AdaptedSAM2",
    "EmptyPromptEncoder",
    "HieraTrunk",
    "PromptFreeMaskDecoder",
    "PromptFreeSAM2",
    "SAM2ImageEncoder",
    "sam2_encoder_config",
]
