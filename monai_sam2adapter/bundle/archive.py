# SPDX-License-Identifier: Apache-2.0
"""A zip file whose bytes depend on its content alone."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

__all__ = ["write_zip"]

_OLDEST_TIME = (1980, 1, 1, 0, 0, 0)  # of the zip format; the same for all files, so that the same input packs alike


def write_zip(folder: Path, others: Mapping[str, Path], target: Path) -> None:
    """
    Write a zip file.

    Args:
        folder: what is packed, below its own name.
        others: files from elsewhere by their place in the folder.
        target: the file to write; the same content gives the same bytes.
    """
    entries = {path.relative_to(folder.parent).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    entries |= {f"{folder.name}/{place}": path for place, path in others.items()}
    # not compressed: weights hardly shrink, and the bytes would depend on the version of zlib
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for place in sorted(entries):
            info = zipfile.ZipInfo(place, date_time=_OLDEST_TIME)
            info.create_system, info.external_attr = 3, 0o100644 << 16  # Unix; readable by all
            info.file_size = entries[place].stat().st_size
            with entries[place].open("rb") as source, archive.open(info, "w") as packed:
                shutil.copyfileobj(source, packed)
