# SPDX-License-Identifier: Apache-2.0
"""Naming an image in an error."""

from __future__ import annotations

from typing import Any

from monai.data import MetaTensor

__all__ = ["file_of"]


def file_of(image: Any, key: object) -> str:
    """The file that an image was read from; without metadata, the key of the item."""
    filename = image.meta.get("filename_or_obj") if isinstance(image, MetaTensor) else None
    return str(filename or f"the item {str(key)!r}")
