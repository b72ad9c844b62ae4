# SPDX-License-Identifier: Apache-2.0
"""Whether a file holds the voxels that its header promises: all of them, whole, and nothing else."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

__all__ = ["DataFile", "require_parts", "require_voxels"]

_CHUNK = 1 << 24
# between the numbers of a file that holds them as text
_SEPARATORS = np.frombuffer(b" \t\r\n\v\f,", np.uint8)


@dataclass(frozen=True)
class DataFile:
    """
    Where the voxels of an image are, or a part of them.

    Args:
        path: the file.
        start: the first of its bytes that belongs to them. Defaults to 0.
        encoding: ``raw``, ``gzip``, ``zlib``, ``text`` or ``hex``. Defaults to "raw".
        packed_size: of ``zlib``, how many bytes are packed. Defaults to None: all to the end of the file.
        skip: unpacked bytes in front of the voxels. Defaults to 0.
        is_end: whether the voxels are the last bytes of the file, whatever is in front. Defaults to False.
    """

    path: Path
    start: int = 0
    encoding: str = "raw"
    packed_size: int | None = None
    skip: int = 0
    is_end: bool = False

    def size(self, itemsize: int) -> int:
        """
        Count the bytes of the voxels, unpacked; a packed file is read to its end, where its checksum is.

        Args:
            itemsize: bytes of a number, of which text says nothing.

        Raises:
            FileNotFoundError: when it is not there.
            ValueError: when it is damaged.
        """
        if self.encoding == "raw":
            return self.path.stat().st_size - self.start - self.skip
        with open(self.path, "rb") as content:
            content.seek(self.start)
            if self.encoding == "text":
                return itemsize * _count_numbers(content)
            if self.encoding == "hex":
                return sum(len(b"".join(chunk.split())) for chunk in _chunks(content)) // 2
            try:
                if self.encoding == "gzip":
                    return sum(map(len, _chunks(gzip.GzipFile(fileobj=content)))) - self.skip
                return _inflated_size(content, self.packed_size)
            except (OSError, EOFError, zlib.error) as error:
                raise ValueError(f"its packed voxels are damaged ({error}); get it again") from error


def require_parts(files: Sequence[DataFile], expected: int, itemsize: int, slices: int) -> str:
    """
    The same as ``require_voxels`` for voxels that are in several files, in equal parts.

    Args:
        files: where they are.
        expected: how many bytes they have by the header.
        itemsize: how many of them are one number.
        slices: how many slices they are.
    """
    if expected % len(files):
        raise ValueError(f"its voxels are in {len(files)} files, which cannot be equal parts of {expected} bytes")
    part = expected // len(files)
    notes = {
        require_voxels(min(found, part) if file.is_end else found, part, max(1, slices // len(files)))
        for file in files
        for found in [file.size(itemsize)]
    }
    return "; ".join(sorted(notes - {""}))


def require_voxels(found: int, expected: int, slices: int) -> str:
    """
    Check the size of the voxels of an image, which readers do not: they leave the memory of those that are missing as
    it was, and drop what is too much.

    Args:
        found: how many bytes there are.
        expected: how many there should be by the header.
        slices: how many slices they are.

    Returns:
        what is behind them, less than a slice, to be put behind the file's name; empty when there is nothing.

    Raises:
        ValueError: when there are less, or more by at least a slice.
    """
    if found < expected:
        raise ValueError(f"it holds {max(found, 0)} bytes of voxels, its header promises {expected}; get it again")
    if found - expected >= expected / max(slices, 1) > 0:
        raise ValueError(
            f"it holds {found} bytes of voxels, its header promises {expected}: slices would be lost, or the type of "
            "the voxels is another; correct the header"
        )
    return f"has {found - expected} bytes behind its voxels, which are not read" if found > expected else ""


def _chunks(content: BinaryIO | gzip.GzipFile) -> Iterator[bytes]:
    while chunk := content.read(_CHUNK):
        yield chunk


def _count_numbers(content: BinaryIO) -> int:
    count, is_between = 0, True
    for chunk in _chunks(content):
        between = np.concatenate([[is_between], np.isin(np.frombuffer(chunk, np.uint8), _SEPARATORS)])
        count += int((between[:-1] & ~between[1:]).sum())
        is_between = bool(between[-1])
    return count


def _inflated_size(content: BinaryIO, packed_size: int | None) -> int:
    """Of one stream of zlib or gzip, and what is behind it."""
    stream, count = zlib.decompressobj(zlib.MAX_WBITS | 32), 0
    left = packed_size
    while not stream.eof:
        packed = content.read(1 << 20 if left is None else min(left, 1 << 20))
        if not packed:
            raise EOFError("they end too early")
        left = None if left is None else left - len(packed)
        while packed and not stream.eof:
            count += len(stream.decompress(packed, _CHUNK))
            packed = stream.unconsumed_tail
    return count + len(stream.unused_data) + sum(map(len, _chunks(content)))
