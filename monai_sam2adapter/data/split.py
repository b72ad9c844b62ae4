# SPDX-License-Identifier: Apache-2.0
"""Files that say which cases are for training, for validation and for testing."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

__all__ = ["SPLIT_PARTS", "packaged_split_file", "read_split"]

#: the parts of a split, in the order in which they are named everywhere
SPLIT_PARTS = ("train", "val", "test")


def packaged_split_file(name: str) -> Path:
    """Path of the default split that comes with the package for the data set ``name``, such as ``acdc``."""
    return Path(__file__).parent / "splits" / f"{name}.json"


def read_split(path: str | os.PathLike[str]) -> dict[str, list[str]]:
    """
    Read a split from a JSON file: ``{"train": ["patient001", ...], "val": [...], "test": [...]}``.

    Every part must be there, and may be empty; other keys, such as a description, are left out.

    Args:
        path: the file.

    Returns:
        the names of each part, in the order of the file.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is not of this form, or when a name is in it twice.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"no split file {file}")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"split file {file} is not JSON: {error}") from error
    if not isinstance(content, dict) or not all(_is_list_of_names(content.get(part)) for part in SPLIT_PARTS):
        raise ValueError(
            f"split file {file} is not a split: expected an object with the lists of names "
            f"{', '.join(SPLIT_PARTS)} (a list may be empty), got {str(content)[:120]}"
        )
    counts = Counter(name for part in SPLIT_PARTS for name in content[part])
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if repeated:
        raise ValueError(
            f"split file {file} names {', '.join(repeated[:5])} more than once ({len(repeated)} such names); "
            f"a case may be in one part only, or the parts would not be independent"
        )
    return {part: list(content[part]) for part in SPLIT_PARTS}


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
