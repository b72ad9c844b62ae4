# SPDX-License-Identifier: Apache-2.0
"""Reading and writing small JSON files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .atomic_file import atomic_path

__all__ = ["read_json", "write_json"]


def read_json(path: str | os.PathLike[str]) -> Any:
    """
    Read a file.

    Returns:
        its content; None when there is no such file.

    Raises:
        ValueError: when it is no JSON.
    """
    path = Path(path)
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged or no JSON: {error}.") from error


def write_json(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a file as a whole or not at all; its folder is made when it is missing."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
