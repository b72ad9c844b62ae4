# SPDX-License-Identifier: Apache-2.0
"""Files that are written as a whole or not at all, and small JSON files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["atomic_path", "read_json", "write_json"]


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """
    Give a temporary path beside ``path`` to write to, and move the result to ``path`` when the block ends well.

    A reader, or a run that is killed half-way, meets the old file or the new one, never a part of it. The folder is
    made when it is missing. Unlike files from ``tempfile``, the new one gets the permissions of the user's umask. Only
    one process may write to ``path`` at a time.

    Args:
        path: final place of the file.

    Yields:
        path to write to; removed when the block raises.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # always the same name, so that the next write replaces what a killed one has left; with the extension of the file,
    # by which many writers choose the format
    temporary = target.with_name(f".unfinished.{target.name}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


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
