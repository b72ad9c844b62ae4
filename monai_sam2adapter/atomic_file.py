# SPDX-License-Identifier: Apache-2.0
"""Write a file as a whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_path"]


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
