# SPDX-License-Identifier: Apache-2.0
"""Reading pictures too large for the memory: some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import tifffile

from ...utils import escaping_logger
from .pictures import ImageFileReader, check_values, open_picture, split_page

__all__ = ["PictureRows", "open_rows", "picture_size"]

logger = escaping_logger(__name__)

_Read = Callable[[int, int], np.ndarray]
_GRAY, _RGB, _YCBCR, _JPEG = 1, 2, 6, 7


class PictureRows:
    """
    Rows of an open picture, as :py:class:`monai_sam2adapter.data.ImageFileReader` gives their values.

    Args:
        read: gives the rows from the first number to in front of the second, as the file has them.
        size: columns and rows.
        reader: what the picture shall be.
        path: its name, for errors.
    """

    def __init__(self, read: _Read, size: tuple[int, int], reader: ImageFileReader, path: str) -> None:
        self.width, self.height = size
        self._read, self._reader, self._path = read, reader, path

    def read(self, start: int, stop: int) -> np.ndarray:
        """
        Args:
            start: first row, from 0.
            stop: row to stop in front of, at most ``height``.

        Returns:
            ``(stop - start, width)`` for gray, with the 3 colors behind for RGB.

        Raises:
            ValueError: when these rows cannot be read, or not as the reader shall give them.
        """
        try:
            return self._reader.as_asked(self._read(start, stop), is_jpeg=False)
        except Exception as error:  # whatever a damaged file makes a decoder stumble over
            raise ValueError(f"{self._path} cannot be read: rows {start} to {stop - 1}: {error}") from error


@contextmanager
def open_rows(path: str, reader: ImageFileReader) -> Iterator[PictureRows]:
    """
    Open a picture to read it in parts.

    Of a TIFF only the tiles or strips with the rows asked for are decoded, BigTIFF too: gray or RGB of 8 bits, or gray
    of 16, without compression or with one that tifffile knows (deflate, packbits, LZMA and zstd; with the package
    imagecodecs LZW, JPEG and others). Any other file is decoded as a whole by Pillow and kept in its own data type.

    Args:
        path: a file, or ``FILE#page=N`` of a TIFF.
        reader: what the picture shall be: its channels and most bits.

    Yields:
        the rows.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it cannot be read as it is.
    """
    with ExitStack() as stack:
        found = _open_tiff(path, stack)
        if found is None:
            logger.info("%s is no TIFF that can be read in parts: it is decoded as a whole", path)
            (whole,) = ImageFileReader(reader.channels, reader.max_bits, max_pixels=None).read_pages(path)
            found = (lambda start, stop: whole[start:stop]), (whole.shape[1], whole.shape[0])
        yield PictureRows(*found, reader, path)


def picture_size(path: str) -> tuple[int, int]:
    """Columns and rows by the header, of a file or ``FILE#page=N``; (0, 0) where reading it will tell what is wrong."""
    file, page = split_page(path)
    try:
        with open_picture(file) as image:
            image.seek(page or 0)
            return image.size
    except Exception as error:  # whatever Pillow stumbles over
        logger.debug("%s: %s", path, error)
        return 0, 0


def _open_tiff(path: str, stack: ExitStack) -> tuple[_Read, tuple[int, int]] | None:
    """How to read rows of a TIFF, and its size; None where its parts cannot be decoded one by one."""
    file, number = split_page(path)
    try:
        with open_picture(file) as image:
            if image.format != "TIFF":
                return None
            image.seek(number or 0)
            check_values(image)
            is_upright = image.getexif().get(0x0112, 1) == 1
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    tiff = stack.enter_context(tifffile.TiffFile(file))
    page: Any = tiff.pages[number or 0]
    channels = page.samplesperpixel
    kinds = {1: (_GRAY,), 3: (_RGB, *((_YCBCR,) if page.compression == _JPEG else ()))}.get(channels, ())
    is_plain = page.planarconfig == 1 and page.imagedepth == 1 and page.photometric in kinds and is_upright
    # values of fewer bits, which Pillow spreads over eight, are read as a whole
    is_plain = is_plain and page.bitspersample in (8, 16)
    if not is_plain or page.dtype not in ((np.uint8, np.uint16) if channels == 1 else (np.uint8,)):
        return None
    rows = _TiffRows(tiff, page)
    try:
        rows.read(0, 1)
    except Exception as error:  # no decoder for its compression, for one
        logger.debug("%s: %s", path, error)
        return None
    return rows.read, (page.imagewidth, page.imagelength)


class _TiffRows:
    """Tiles or strips of a page, decoded when they are asked for."""

    def __init__(self, tiff: tifffile.TiffFile, page: Any) -> None:
        self.file, self.page = tiff.filehandle, page
        self.dtype = np.dtype(page.dtype).newbyteorder(tiff.byteorder)
        self.channels = (page.samplesperpixel,) if page.samplesperpixel > 1 else ()

    def read(self, start: int, stop: int) -> np.ndarray:
        page = self.page
        shape = (stop - start, page.imagewidth, *self.channels)
        if page.is_memmappable:  # one row behind the other, in as many strips as there may be
            row_bytes = int(np.prod(shape[1:])) * self.dtype.itemsize
            self.file.seek(page.dataoffsets[0] + start * row_bytes)
            values = np.frombuffer(self.file.read((stop - start) * row_bytes), self.dtype).reshape(shape)
            return values.astype(page.dtype)
        values = np.zeros(shape, page.dtype)
        (length, across), columns = page.chunks[:2], page.chunked[1]
        for row in range(start // length, -(-stop // length)):
            top = row * length
            for column in range(columns):
                chunk = self._decode(row * columns + column)
                if chunk is None:  # left out of the file, which means 0
                    continue
                chunk = chunk.reshape(*chunk.shape[1:3], *self.channels)[max(start - top, 0) : stop - top]
                first, left = max(top - start, 0), column * across
                place = values[first : first + len(chunk), left : left + across]
                place[...] = chunk[: len(place), : place.shape[1]]
        return values

    def _decode(self, number: int) -> np.ndarray | None:
        self.file.seek(self.page.dataoffsets[number])
        data = self.file.read(self.page.databytecounts[number])
        chunk: np.ndarray | None = self.page.decode(data or None, number, jpegtables=self.page.jpegtables)[0]
        return chunk
