# SPDX-License-Identifier: Apache-2.0
"""Files that are written as a whole or not at all, folders that can be written to, and small JSON files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = [
    "atomic_path",
    "is_same_file",
    "read_json",
    "require_writable",
    "sha1_of_file",
    "sha256_of_file",
    "write_json",
]

_UNFINISHED = ".unfinished."  # with which the temporary folders begin
# a medium that takes nothing more: full, over the user's quota, over the limit of a file's size, broken
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_CHUNK = 1 << 20  # bytes
_IN_PLACE = (FileExistsError, NotADirectoryError)  # a file where a folder should be


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """
    Give a temporary path to write to, and move the result to ``path`` when the block ends well.

    A reader, or a run that is killed half-way, meets the old file or the new one, never a part of it. The folder is
    made when it is missing. Unlike files from ``tempfile``, the new one gets the permissions of the user's umask. Only
    one process may write to ``path`` at a time.

    Args:
        path: final place of the file.

    Yields:
        path to write to, of the same name, in a folder of its own that no other user can put a link into; removed when
        the block raises.

    Raises:
        OSError: when the medium is full or broken; it names the file. Some writers, such as ``torch.save``, say neither
            which file nor why.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_unfinished(target)
    folder = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=target.parent))
    # by the extension many writers choose the format
    temporary = folder / target.name
    try:
        yield temporary
        os.replace(temporary, target)
    except Exception as error:
        cause = _no_room(error, temporary)
        if cause is None:
            raise
        raise _named(cause, target) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def require_writable(folder: str | os.PathLike[str]) -> None:
    """
    Find out before the work whether results can be written: write a file, which is gone at once, to the folder, or
    where it is missing to the one that it will be made in.

    Args:
        folder: where results will be written.

    Raises:
        OSError: when they cannot; it names the folder and says why, such as a file in its place, missing permissions or
            a full disk.
    """
    place = Path(folder).absolute()
    there = next(path for path in (place, *place.parents) if os.path.lexists(path))
    try:
        with tempfile.NamedTemporaryFile(prefix=_UNFINISHED, dir=there) as probe:
            probe.write(bytes(_CHUNK))
            probe.flush()
    except OSError as error:
        reason = "it, or a folder that it lies in, is a file" if isinstance(error, _IN_PLACE) else error.strerror
        raise OSError(
            error.errno, f"nothing can be written to this folder ({reason}); choose another output_dir", str(folder)
        ) from error


def is_same_file(path: str | os.PathLike[str] | None, other: str | os.PathLike[str]) -> bool:
    """Whether two names are of one file, which is there; None is the name of none."""
    first, second = (Path(name or "").expanduser() for name in (path, other))
    return path is not None and first.is_file() and second.is_file() and first.samefile(second)


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
    except ValueError as error:
        raise ValueError(f"{path} is damaged or no JSON: {error}.") from error


def sha256_of_file(path: Path) -> str:
    """SHA-256 checksum of a file, as 64 hexadecimal digits."""
    return _hexdigest(path, hashlib.sha256())


def sha1_of_file(path: Path) -> str:
    """SHA-1 checksum of a file, by which MONAI's model zoo lists it, as 40 hexadecimal digits."""
    return _hexdigest(path, hashlib.sha1(usedforsecurity=False))


def _hexdigest(path: Path, digest: Any) -> str:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def write_json(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a file as a whole or not at all; its folder is made when it is missing."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _remove_unfinished(target: Path) -> None:
    """Remove what a killed process has left of this file; no link is followed, and no other file's folder touched."""
    with os.scandir(target.parent) as entries:
        found = [
            entry.path
            for entry in entries
            if entry.name.startswith(_UNFINISHED) and entry.is_dir(follow_symlinks=False)
        ]
    for folder in found:
        with suppress(OSError):  # another user's
            if os.listdir(folder) == [target.name]:  # with anything beside it, it is none of ours
                shutil.rmtree(folder, ignore_errors=True)


def _no_room(error: Exception, temporary: Path) -> OSError | None:
    """That the medium takes nothing more, by the error, or else by trying."""
    if isinstance(error, OSError):
        return error if error.errno in _NO_ROOM else None
    if not temporary.exists():
        return None
    try:
        with temporary.open("ab") as file:
            file.write(bytes(_CHUNK))
    except OSError as tried:
        return tried if tried.errno in _NO_ROOM else None
    return None


def _named(error: OSError, path: Path) -> OSError:
    return OSError(error.errno, f"{error.strerror} while writing; make room, or write elsewhere", str(path))
