# SPDX-License-Identifier: Apache-2.0
"""Names of the cases in a batch, for reports and pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from monai.data import MetaTensor, decollate_batch

__all__ = ["get_case_names", "get_case_sources"]


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
    return [_name(item, image_key) or f"case_{index}" for index, item in enumerate(_items(batch), start=first_index)]


def get_case_sources(batch: Any, image_key: str = "image") -> list[str | None]:
    """
    What tells each case of a batch from all others: its ``"case"`` entry, else the whole path of its image file.

    Two folders may hold files of one name, which :py:func:`get_case_names` calls the same.

    Args:
        batch: as for :py:func:`get_case_names`.
        image_key: key of the image, whose metadata holds the file name. Defaults to "image".

    Returns:
        one text for each case, in order, None for a case that has neither.
    """
    return [_source(item, image_key) for item in _items(batch)]


def _items(batch: Any) -> Any:
    return decollate_batch(batch) if isinstance(batch, Mapping) else batch


def _name(item: Mapping[str, Any], image_key: str) -> str | None:
    source = _source(item, image_key)
    if source is None or "case" in item:
        return source
    filename = os.path.basename(os.path.normpath(source))
    return os.path.splitext(filename.removesuffix(".gz"))[0]


def _source(item: Mapping[str, Any], image_key: str) -> str | None:
    if "case" in item:
        return str(item["case"])
    image = item.get(image_key)
    filename = image.meta.get("filename_or_obj") if isinstance(image, MetaTensor) else None
    return str(filename) if filename else None
