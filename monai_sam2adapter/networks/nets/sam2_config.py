# SPDX-License-Identifier: Apache-2.0
"""The architecture of each SAM 2 variant, read from the files that the sam2 package ships."""

from __future__ import annotations

import copy
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from monai.utils import look_up_option

__all__ = ["SAM2_VARIANTS", "sam2_encoder_config"]

# SAM 2 and SAM 2.1 have the same image encoder and mask decoder, so one file describes both.
_CONFIG_FILES = {
    "tiny": "configs/sam2.1/sam2.1_hiera_t.yaml",
    "small": "configs/sam2.1/sam2.1_hiera_s.yaml",
    "base_plus": "configs/sam2.1/sam2.1_hiera_b+.yaml",
    "large": "configs/sam2.1/sam2.1_hiera_l.yaml",
}
SAM2_VARIANTS = tuple(_CONFIG_FILES)


def sam2_encoder_config(variant: str) -> dict[str, dict[str, Any]]:
    """
    Constructor arguments of a variant's trunk and neck, spelled as sam2 spells them.

    Args:
        variant: "tiny", "small", "base_plus" or "large".

    Returns:
        ``{"trunk": {...}, "neck": {...}}``, a copy that the caller may change.

    Raises:
        ValueError: when the variant is unknown; the message lists those that exist.
    """
    encoder = _read_yaml(_CONFIG_FILES[look_up_option(variant, SAM2_VARIANTS)])["model"]["image_encoder"]
    drop = ("_target_", "position_encoding")
    config = {part: {k: v for k, v in encoder[part].items() if k not in drop} for part in ("trunk", "neck")}
    return copy.deepcopy(config)


@cache
def _read_yaml(name: str) -> dict[str, Any]:
    return yaml.safe_load(files("sam2").joinpath(name).read_text(encoding="utf-8"))
