# SPDX-License-Identifier: Apache-2.0
"""DINOv2's vision transformers from timm."""

from __future__ import annotations

import os
from typing import Any

from monai.utils import look_up_option, optional_import

from ..weights import load_dinov2_checkpoint
from .hiera import LinspaceOnCPU

__all__ = ["DINOV2_VARIANTS", "build_dinov2"]

DINOV2_VARIANTS = ("small", "base", "large")
PATCH_SIZE = 14
DOWNLOAD = "timm"


def build_dinov2(variant: str, size: int, checkpoint: str | os.PathLike[str] | None = None) -> Any:
    """
    Build timm's DINOv2 of a size, which returns the map after its last block.

    Args:
        variant: "small", "base" or "large".
        size: side of the square images that it takes, in pixels; a multiple of 14.
        checkpoint: path of a file of weights, see
            :func:`~monai_sam2adapter.networks.weights.load_dinov2_checkpoint`, or "timm" to let timm download its own.
            None leaves random weights. Defaults to None.

    Returns:
        a module that maps images ``(B, 3, size, size)`` to a list of one map, ``(B, C, size / 14, size / 14)``; ``C``
        is ``feature_info.channels()[0]``.

    Raises:
        ValueError: when the variant is unknown, or ``size`` is no multiple of 14.
        ImportError: when timm is not installed.
        FileNotFoundError: when ``checkpoint`` is no file.
        CheckpointError: when the file does not fit.
    """
    look_up_option(variant, DINOV2_VARIANTS)
    if size < PATCH_SIZE or size % PATCH_SIZE:
        fit = -(-max(size, 1) // PATCH_SIZE) * PATCH_SIZE
        raise ValueError(f"the size for DINOv2 must be a multiple of {PATCH_SIZE}, got {size}; take {fit}.")
    timm = _require_timm()
    with LinspaceOnCPU():
        model = timm.create_model(
            f"vit_{variant}_patch14_dinov2",
            pretrained=checkpoint == DOWNLOAD,
            features_only=True,
            out_indices=[-1],
            img_size=size,
        )
    if checkpoint not in (None, DOWNLOAD):
        load_dinov2_checkpoint(model, checkpoint)
    return model


def _require_timm() -> Any:
    timm, found = optional_import("timm")
    if not found:
        raise ImportError("SAM2UNeXT needs timm for DINOv2; install it with pip install 'monai-sam2adapter[unext]'.")
    return timm
