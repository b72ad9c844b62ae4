# SPDX-License-Identifier: Apache-2.0
"""Cases for inference, of which some may be broken."""

from __future__ import annotations

import traceback
from typing import Any

from monai.data import Dataset

__all__ = ["CaseDataset"]

_PACKAGE = __name__.partition(".")[0]
_LONGEST = 300  # characters of a reason


class CaseDataset(Dataset):
    """
    ``monai.data.Dataset`` that hands an item which cannot be read on as such, so that the others can be done.

    In its place comes ``{"case": ..., "file": ..., "error": ...}``, with the reason as text, for
    :py:class:`monai_sam2adapter.engines.CaseEvaluator`; the others get ``"file"`` added, where the image came from.
    Items are dictionaries with ``image`` and ``case``; with ``error``, too, they are handed on as they are, and so are
    pictures with ``parts``, which are too large to be read as a whole. Read them one by one: such an item does not fit
    into a batch with others.
    """

    def _transform(self, index: int) -> dict[str, Any]:
        item = self.data[index]
        source = {"case": item["case"], "file": str(item["image"])}
        if "error" in item:
            return {**source, "error": item["error"]}
        if "parts" in item:
            return {**source, "parts": item["parts"]}
        try:
            return {**super()._transform(index), **source}
        except Exception as error:
            return {**source, "error": describe_error(error)}


def describe_error(error: BaseException) -> str:
    """
    What went wrong, in one line of at most 300 characters.

    Transforms raise errors of MONAI, around the one that tells the reason. Told is the first in the chain that this
    package has raised, since it names the file and what to do, else the one that began it.
    """
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    told = next((link for link in chain if str(link).strip() and _is_own(link)), chain[-1])
    text = f"{type(told).__name__}: {' '.join(str(told).split())}"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _is_own(error: BaseException) -> bool:
    """Whether the innermost function of the traceback, which has raised it, is of this package."""
    steps = list(traceback.walk_tb(error.__traceback__))
    return bool(steps) and steps[-1][0].f_globals.get("__name__", "").partition(".")[0] == _PACKAGE
