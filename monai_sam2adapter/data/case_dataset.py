# SPDX-License-Identifier: Apache-2.0
"""Cases for inference, of which some may be broken."""

from __future__ import annotations

from typing import Any

from monai.data import Dataset

__all__ = ["CaseDataset"]


class CaseDataset(Dataset):
    """
    ``monai.data.Dataset`` that hands an item which cannot be read on as such, so that the others can be done.

    In its place comes ``{"case": ..., "file": ..., "error": ...}``, with the reason as text, for
    :py:class:`monai_sam2adapter.engines.CaseEvaluator`; the others get ``"file"`` added, where the image came from.
    Items are dictionaries with ``image`` and ``case``. Read them one by one: such an item does not fit into a batch
    with others.
    """

    def _transform(self, index: int) -> dict[str, Any]:
        item = self.data[index]
        source = {"case": item["case"], "file": str(item["image"])}
        try:
            return {**super()._transform(index), **source}
        except Exception as error:
            return {**source, "error": describe_error(error)}


def describe_error(error: BaseException) -> str:
    """The first line of what went wrong in the first place; MONAI wraps errors of transforms in its own."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
