# SPDX-License-Identifier: Apache-2.0
"""Reading pictures: PNG, JPEG, BMP and TIFF."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import ensure_tuple
from PIL import Image, ImageOps

from ..geometry import image_meta
from ..pixel_values import depth_problem, has_colors, precision_problem
from .tiff import tiff_problem

__all__ = ["MAX_PIXELS", "ImageFileReader", "open_picture"]

#: how many pixels a picture may have unless more are asked for, as in Pillow
MAX_PIXELS = 178_956_970

_EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
_LOCK = threading.Lock()
_OPEN: list[PathLike] = []  # pictures that are open, in all threads
_LIMIT: list[int | None] = []  # of Pillow, before the first of them
_PAGE = re.compile(r"(?P<file>.+)#page=(?P<page>\d+)")
# Pillow's modes: 8 bits a value, with what they are read as, and more bits, which are always gray
_PLAIN_MODES = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "PA": "RGB", "RGB": "RGB", "RGBA": "RGB"}
_DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")


@contextmanager
def open_picture(file: PathLike) -> Iterator[Image.Image]:
    """
    Open a picture with Pillow, without Pillow's limit of its size, which is one of the whole process.

    Args:
        file: a PNG, JPEG, BMP or TIFF file.

    Yields:
        Pillow's picture, whose pixels are not read yet; the limit is back when no picture is open any more.

    Raises:
        FileNotFoundError: when there is no such file.
        OSError: when Pillow does not know it.
    """
    with _LOCK:
        if not _OPEN:
            _LIMIT[:] = [Image.MAX_IMAGE_PIXELS]
        _OPEN.append(file)
        Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(file, formats=_FORMATS) as image:
            yield image
    finally:
        with _LOCK:
            _OPEN.remove(file)
            if not _OPEN:
                (Image.MAX_IMAGE_PIXELS,) = _LIMIT


class ImageFileReader(ImageReader):
    """
    Read a PNG, JPEG, BMP or TIFF picture by Pillow, with values as in the file and the first axis to the right.

    MONAI's ``PILReader`` gives whatever Pillow holds: the indices of a palette, an alpha channel as a fourth color, the
    first page of a TIFF alone, 16-bit colors cut to 8 bits, and a photograph lying on its side. Here:

    - a TIFF of several pages is a volume, ``(X, Y, Z)``; ``stack.tif#page=7`` is its eighth page alone;
    - gray values keep their depth (8, 16 or 32 bits, integer or floating-point); 1-bit pictures become 0 and 255;
    - palettes are looked up; an alpha channel is dropped where it is opaque everywhere, and an error elsewhere;
    - masks of class numbers, where they are asked for, may have a palette of colors, whose indices are the numbers, or
      hold the number in one of three channels and 0 in the others; no color is ever turned into a shade of gray;
    - the orientation that a camera has noted (EXIF) is applied, as viewers do, so that a photograph matches the mask
      that was drawn on it;
    - anything that Pillow would read with other values than the file's, such as colors of 16 bits, or not at all, such
      as the planes of a stack that is one page, is an error, and so are colors where gray is asked for.

    ``LoadImage`` passes on what is refused here, with the file's name, and turns to no other reader.

    Pillow alone serves all four formats; tifffile reads more kinds of TIFF (such as 16-bit color) but nothing else.

    The affine is the identity, in pixels: resolution tags of such files say what the printer should do. In a config:
    ``"reader": {"_target_": "monai_sam2adapter.data.ImageFileReader", "channels": 3, "max_bits": 8}``.

    Args:
        channels: 1 for gray (which may be stored as RGB of equal channels), 3 for RGB (gray is repeated). Defaults to
            None, what the file holds.
        labels: whether pixels are class numbers, or black and white; then several files of one size, such as a mask for
            each class, are the channels of one image. Defaults to False.
        max_bits: the most bits that a value may have in the file, 8 or 16, for networks that expect values of a fixed
            range, such as 0 to 255. Defaults to None, any number.
        max_pixels: how many pixels a page may have, so that a small file cannot fill the memory. Defaults to
            178,956,970, Pillow's limit; None for any number.

    Raises:
        ValueError: when ``channels``, ``max_bits`` or ``max_pixels`` is anything else, or labels shall have 3 channels.
    """

    def __init__(
        self,
        channels: int | None = None,
        max_bits: int | None = None,
        labels: bool = False,
        max_pixels: int | None = MAX_PIXELS,
    ) -> None:
        super().__init__()
        if channels not in (None, 1, 3):
            raise ValueError(f"channels is {channels!r}, expected 1 (gray), 3 (RGB) or None (as in the file).")
        if max_bits not in (None, 8, 16):
            raise ValueError(f"max_bits is {max_bits!r}, expected 8, 16 or None (any number).")
        if max_pixels is not None and max_pixels < 1:
            raise ValueError(f"max_pixels is {max_pixels!r}, expected at least 1, or None (any number).")
        if labels and channels == 3:
            raise ValueError("channels is 3, expected 1 or None for labels, which are one number a pixel.")
        self.labels = labels
        self.channels = 1 if labels else channels
        self.max_bits = max_bits
        self.max_pixels = max_pixels

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Whether the file, or all of several, have the extension of a format that this reader is for."""
        return all(split_page(name)[0].lower().endswith(_EXTENSIONS) for name in ensure_tuple(filename))

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Sequence[PathLike]:
        """
        Leave the reading to :meth:`get_data`: ``LoadImage`` takes an error that is raised here to say that another
        reader should try.

        Args:
            data: the file; ``#page=N`` behind it takes one page of a TIFF, from 0 on.
            kwargs: not used.

        Returns:
            the same, in a tuple.
        """
        return ensure_tuple(data)

    def get_data(self, img: Sequence[PathLike]) -> tuple[np.ndarray, dict[str, Any]]:
        """
        Args:
            img: what :meth:`read` returned.

        Returns:
            the array, ``(X, Y)`` for one page and ``(X, Y, Z)`` for several, with the 3 colors behind, where there
            are; and its metadata.

        Raises:
            FileNotFoundError: when there is no such file.
            ValueError: when there is more than one file, and not of labels, or one cannot be read as it is.
        """
        if len(img) != 1:
            return self._read_masks(img)
        pages = self.read_pages(img[0])
        array = np.stack(pages).swapaxes(0, 2)  # (Z, Y, X) or (Z, Y, X, C) -> (X, Y, Z) or (X, Y, Z, C)
        if len(pages) == 1:
            array = array[:, :, 0]
        dimension = 2 if len(pages) == 1 else 3
        return array, image_meta(array.shape[:dimension], np.eye(4), channels_last=array.ndim > dimension)

    def _read_masks(self, files: Sequence[PathLike]) -> tuple[np.ndarray, dict[str, Any]]:
        """Labels of one page each, ``(X, Y, C)``."""
        if not self.labels:
            raise ValueError(f"ImageFileReader reads one file at a time, got {len(files)}: {files}.")
        pages = [self.read_pages(file) for file in files]
        for file, found in zip(files, pages, strict=True):
            if len(found) > 1 or found[0].shape != pages[0][0].shape:
                shapes = [" x ".join(map(str, reversed(page[0].shape))) for page in (found, pages[0])]
                raise ValueError(
                    f"{file} has {len(found)} pages of {shapes[0]} pixels, {files[0]} {len(pages[0])} of {shapes[1]}; "
                    "expected masks of one page and one size for each class"
                )
        array = np.stack([found[0].T for found in pages], axis=-1)
        return array, image_meta(array.shape[:2], np.eye(4), channels_last=True)

    def read_pages(self, path: PathLike) -> list[np.ndarray]:
        """
        Args:
            path: as in :meth:`read`.

        Returns:
            one array a page, ``(Y, X)`` for gray, ``(Y, X, 3)`` for colors.

        Raises:
            FileNotFoundError: when there is no such file.
            ValueError: when it cannot be read as it is.
        """
        file, page = split_page(path)
        try:
            with open_picture(file) as image:
                pages = [self._read_page(image, k) for k in _choose_pages(image, page)]
            if len({(array.shape, array.dtype) for array in pages}) > 1:
                raise ValueError("its pages differ in size or kind; name one of them, as FILE#page=0")
        except FileNotFoundError:
            raise
        # a damaged file makes Pillow raise whatever it stumbles over, mostly without the file's name
        except Exception as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
        return pages

    def _read_page(self, image: Image.Image, page: int) -> np.ndarray:
        if page:
            image.seek(page)
        if self.max_pixels is not None and image.width * image.height > self.max_pixels:
            raise ValueError(
                f"it has {image.width} x {image.height} pixels, more than max_pixels, {self.max_pixels}; cut it into "
                "parts, give a larger max_pixels, or for inference a tile, by which it is read in parts"
            )
        check_values(image)
        image.load()  # turns a TIFF upright by itself
        upright = ImageOps.exif_transpose(image)
        if upright.mode in _DEEP_MODES:
            array = np.array(upright)
            return self.as_asked(array.astype(array.dtype.newbyteorder("=")), is_jpeg=False)
        if self.labels and (palette := _color_palette(upright)) is not None:
            return palette
        return self.as_asked(np.array(_drop_alpha(upright).convert(_PLAIN_MODES[upright.mode])), image.format == "JPEG")

    def as_asked(self, array: np.ndarray, is_jpeg: bool) -> np.ndarray:
        """
        Args:
            array: values as the file has them, ``(Y, X)`` or ``(Y, X, 3)``.
            is_jpeg: whether the file is a JPEG, whose gray may have a little color.

        Returns:
            the same with as many channels as are asked for.

        Raises:
            ValueError: when it has more bits than are asked for, or colors where there shall be none.
        """
        problem = "" if array.dtype == np.uint8 else depth_problem(array, self.max_bits) or precision_problem(array)
        if problem:
            raise ValueError(problem)
        if self.channels == 3 and array.ndim == 2:
            return np.stack([array] * 3, axis=-1)
        return self._gray(array, is_jpeg) if self.channels == 1 and array.ndim == 3 else array

    def _gray(self, array: np.ndarray, is_jpeg: bool) -> np.ndarray:
        """Of 3 channels, ``(Y, X, 3)``, the one that they agree in."""
        if not has_colors(array, is_jpeg):
            return np.array(Image.fromarray(array).convert("L"))
        filled = [channel for channel in np.moveaxis(array, -1, 0) if channel.any()]
        if self.labels and len(filled) == 1 and not is_jpeg:
            return filled[0]
        if self.labels:
            raise ValueError(
                "it has colors, expected class numbers: gray, by a palette, or in one of the three channels; map its "
                "colors to numbers"
            )
        raise ValueError("it has colors, expected gray; convert it to gray, if it is the right file")


def _color_palette(image: Image.Image) -> np.ndarray | None:
    """
    The indices of a palette that has colors, ``(Y, X)``; None where there is none, or what is used may be meant as
    gray: all of it is black or white, or the palette has no color at all.
    """
    if image.mode not in ("P", "PA"):
        return None
    indices = np.array(image.getchannel(0) if image.mode == "PA" else image)
    colors = np.array(image.getpalette("RGB")).reshape(-1, 3)
    used = colors[np.unique(indices)]
    is_gray = not has_colors(used[None], is_jpeg=False)
    if is_gray and (set(np.unique(used)) <= {0, 255} or not has_colors(colors[None], is_jpeg=False)):
        return None
    return indices


def label_colors(file: str, numbers: np.ndarray) -> dict[int, tuple[int, ...]]:
    """
    The colors by which a mask shows its class numbers, from its palette or its three channels.

    Args:
        file: a mask of one page.
        numbers: what ``ImageFileReader(labels=True)`` has read of it, ``(Y, X)``.

    Returns:
        red, green and blue, 0 to 255, by the class numbers that it holds; empty for a gray mask.
    """
    with open_picture(file) as image:
        if image.format == "JPEG" or image.mode not in ("P", "PA", "RGB", "RGBA"):
            return {}
        colors = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    if (colors == numbers[..., None]).all():
        return {}
    values, first = np.unique(numbers, return_index=True)
    return {int(value): tuple(colors.reshape(-1, 3)[k].tolist()) for value, k in zip(values, first, strict=True)}


def split_page(name: PathLike) -> tuple[str, int | None]:
    match = _PAGE.fullmatch(str(name))
    return (match["file"], int(match["page"])) if match else (str(name), None)


def _choose_pages(image: Image.Image, page: int | None) -> Sequence[int]:
    number = getattr(image, "n_frames", 1)
    if image.format == "PNG" and number > 1:
        raise ValueError(f"it is an animation of {number} pictures, expected one")
    if image.format != "TIFF":
        number = 1  # cameras put a preview behind the picture of a JPEG
    if page is None:
        return range(number)
    if page >= number:
        raise ValueError(f"there is no page {page}: it has {number}, counted from 0")
    return [page]


def check_values(image: Image.Image) -> None:
    """Refuse what Pillow would load with other values than those of the file, which it does not tell."""
    if image.mode not in _PLAIN_MODES and image.mode not in _DEEP_MODES:
        raise ValueError(f"its colors are {image.mode}, expected gray, palette or RGB; convert it")
    if image.mode in _PLAIN_MODES and ";16" in _stored_as(image):
        raise ValueError("its colors have 16 bits, of which only 8 would be read; convert it to 8 bits")
    problem = tiff_problem(image)
    if problem:
        raise ValueError(problem)


def _stored_as(image: Image.Image) -> str:
    """Pillow's name for how the values lie in the file, such as ``RGB;16B``."""
    return str(image.tile[0][3])  # type: ignore[attr-defined]


def _drop_alpha(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    with_alpha = image.convert("RGBA")
    if with_alpha.getchannel("A").getextrema() != (255, 255):
        raise ValueError("it has transparent pixels, which show what is behind; save it without an alpha channel")
    return with_alpha.convert(_PLAIN_MODES[image.mode])
