# SPDX-License-Identifier: Apache-2.0
"""Names of the cases in a batch, for reports and pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from monai.data import MetaTensor, decollate_batch

__all__ = ["get_case_names"]


def get_case_names(batch: Any, image_key: str = "image", first_index: int = 0) -> list[str]:
    """
    Name each case of a batch: its ``"case"`` entry, else the name of its image file without folder and extension.

    Args:
        batch: ``engine.state.batch`` of a MONAI engine: a list of dictionaries, or one dictionary of batched values.
        image_key: key of the image, whose metadata holds the file name. Defaults to "image".
        first_index: number of the first case, for cases that have neither; those are called ``case_<number>``.

    Returns:
        one name for each case, in order.
    """
    items = decollate_batch(batch) if isinstance(batch, Mapping) else batch
    return [_name(item, image_key) or f"case_{index}" for index, item in enumerate(items, start=first_index)]


def _name(item: Mapping[str, Any], image_key: str) -> str | None:
    if "case" in item:
        return str(item["case"])
    image = item.get(image_key)
    filename = image.meta.get("filename_or_obj") if isinstance(image, MetaTensor) else None
    if not filename:
        return None
    name = os.path.basename(os.path.normpath(str(filename)))
    return os.path.splitext(name.removesuffix(".gz"))[0]
