# SPDX-License-Identifier: Apache-2.0
"""Results replace earlier results, and never a file that somebody else has put there or has changed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .files import atomic_path, sha256_of_file
from .text import printable

__all__ = ["is_own", "own_path", "require_own"]

# in each folder: a line for each file that was written there, as `sha256sum` writes and checks them
_RECORD = ".written.sha256"


@contextmanager
def own_path(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """
    :py:func:`monai_sam2adapter.utils.atomic_path` for results.

    Args:
        path: final place of the file. Its checksum is kept in a hidden file of the folder, ``.written.sha256``.
        overwrite: whether any file there may be replaced. Defaults to False: only one of an earlier run that nobody has
            changed since.

    Yields:
        path to write to.

    Raises:
        FileExistsError: when there is another file; before anything is written.
    """
    target = Path(path)
    if not overwrite:
        require_own([target])
    with atomic_path(target) as temporary:
        yield temporary
        # before the file gets its name: a run that is killed here leaves a line too many, and no file without one
        _note(target, sha256_of_file(temporary))


def is_own(path: str | os.PathLike[str]) -> bool:
    """Whether a file was written by :py:func:`own_path`, and is as it was then."""
    return not _foreign([Path(path)])


def require_own(paths: Iterable[str | os.PathLike[str]]) -> None:
    """
    Find out before the work whether results would take the place of anything else.

    Args:
        paths: places of results.

    Raises:
        FileExistsError: when there are other files; it names them.
    """
    foreign = _foreign(map(Path, paths))
    if foreign:
        names = ", ".join(printable(path) for path in foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise FileExistsError(
            f"results would replace {len(foreign)} files that no run has written, or that were changed since: {names}. "
            "Write elsewhere (--output_dir), move them, or replace them (--overwrite True)."
        )


def _foreign(paths: Iterable[Path]) -> list[Path]:
    """Those of the paths where something lies that the record of the folder does not have."""
    there = [path for path in paths if os.path.lexists(path)]
    records = {folder: _read_record(folder) for folder in {path.parent for path in there}}
    return [
        path
        for path in there
        if path.is_symlink()
        or not path.is_file()
        or not (record := records[path.parent])
        or _line(path.name, sha256_of_file(path)) not in record
    ]


def _line(name: str, checksum: str) -> str:
    """A line of the record, with a name that cannot begin another."""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n")
    return ("" if escaped == name else "\\") + f"{checksum}  {escaped}"


def _note(target: Path, checksum: str) -> None:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    try:
        record = os.open(target.with_name(_RECORD), flags, 0o666)
    except PermissionError:  # another user's: whoever replaces this file will be asked
        return
    try:
        os.write(record, f"{_line(target.name, checksum)}\n".encode(errors="surrogateescape"))
    finally:
        os.close(record)


def _read_record(folder: Path) -> set[str]:
    """Lines of the record; names may hold what Python, but not `sha256sum`, takes for the end of a line."""
    try:
        return set((folder / _RECORD).read_bytes().decode(errors="surrogateescape").split("\n"))
    except FileNotFoundError:
        return set()
