# SPDX-License-Identifier: Apache-2.0
"""Rows of pictures come with the values that ``ImageFileReader`` gives of the whole file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from monai_sam2adapter.data import ImageFileReader
from monai_sam2adapter.data.readers import open_rows, picture_rows, picture_size

COLOR = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
GRAY = COLOR[..., 0].copy()
DEEP = np.random.default_rng(1).integers(0, 65536, (90, 130), dtype=np.uint16)
# by their layout: options of tifffile
TIFFS: dict[str, dict[str, Any]] = {
    "rows": {},
    "strips": {"rowsperstrip": 7},
    "deflate_strips": {"rowsperstrip": 7, "compression": "zlib"},
    "tiles": {"tile": (32, 48)},
    "deflate_tiles": {"tile": (32, 48), "compression": "zlib"},
    "predictor": {"tile": (32, 48), "compression": "zlib", "predictor": True},
    "bigtiff": {"tile": (64, 64), "bigtiff": True},
    "big_endian": {"byteorder": ">"},
    "big_endian_tiles": {"byteorder": ">", "tile": (32, 48), "compression": "zlib"},
}


def rows_of(path: Path | str, channels: int | None, **options: Any) -> tuple[np.ndarray, list[np.ndarray]]:
    """The whole file, and bands of it that overlap."""
    reader = ImageFileReader(channels, **options)
    (whole,) = reader.read_pages(path)
    with open_rows(str(path), reader) as rows:
        assert (rows.height, rows.width) == whole.shape[:2]
        return whole, [rows.read(start, min(start + 40, rows.height)) for start in range(0, rows.height, 29)]


def check(path: Path | str, channels: int | None, **options: Any) -> None:
    whole, bands = rows_of(path, channels, **options)
    for number, band in enumerate(bands):
        np.testing.assert_array_equal(band, whole[29 * number : 29 * number + 40])
        assert band.dtype == whole.dtype


@pytest.mark.parametrize("layout", TIFFS)
@pytest.mark.parametrize(("pixels", "channels"), [(COLOR, 3), (GRAY, 1), (GRAY, 3), (DEEP, 1), (DEEP, 3)])
def test_tiffs_are_read_in_parts(
    tmp_path: Path, layout: str, pixels: np.ndarray, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric=photometric, metadata=None, **TIFFS[layout])
    check(tmp_path / "a.tif", channels)
    # and never decoded as a whole
    monkeypatch.setattr(ImageFileReader, "read_pages", None)
    with open_rows(str(tmp_path / "a.tif"), ImageFileReader(channels)) as rows:
        rows.read(3, 5)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "lzw.tif", "palette.tif", "bilevel.tif", "turned.jpg"])
def test_what_cannot_be_read_in_parts_is_decoded_as_a_whole(tmp_path: Path, name: str) -> None:
    options: dict[str, Any] = {"lzw.tif": {"compression": "tiff_lzw"}}.get(name, {})
    image = Image.fromarray(COLOR)
    if name == "turned.jpg":
        exif = Image.Exif()
        exif[0x0112] = 6
        options["exif"] = exif
    image = {"palette.tif": image.quantize(16), "bilevel.tif": image.convert("1")}.get(name, image)
    image.save(tmp_path / name, **options)
    check(tmp_path / name, 3)


def test_one_page_of_several_and_sizes_by_the_header(tmp_path: Path) -> None:
    pages = [Image.fromarray(GRAY), Image.fromarray(GRAY[:50, :60])]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    check(f"{tmp_path / 'a.tif'}#page=1", 1)
    assert picture_size(f"{tmp_path / 'a.tif'}#page=1") == (60, 50)
    assert picture_size(str(tmp_path / "a.tif")) == (130, 90)
    assert picture_size(str(tmp_path / "b.tif")) == (0, 0)


def test_only_the_tiles_with_the_rows_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "a.tif", COLOR, photometric="rgb", tile=(32, 48), compression="zlib")
    decoded: list[int] = []
    decode = picture_rows._TiffRows._decode

    def note(self: Any, number: int) -> Any:
        decoded.append(number)
        return decode(self, number)

    monkeypatch.setattr(picture_rows._TiffRows, "_decode", note)
    with open_rows(str(tmp_path / "a.tif"), ImageFileReader(3)) as rows:
        decoded.clear()
        rows.read(33, 50)
    assert decoded == [3, 4, 5]


@pytest.mark.parametrize(
    ("pixels", "channels", "options", "message"),
    [
        (COLOR, 1, {}, "it has colors, expected gray"),
        (DEEP, 3, {"max_bits": 8}, "its values have 16 bits"),
        (COLOR.astype(np.uint16), 3, {}, "cannot be read"),
    ],
)
def test_other_values_than_are_asked_for_are_refused(
    tmp_path: Path, pixels: np.ndarray, channels: int, options: dict[str, Any], message: str
) -> None:
    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric=photometric)
    with (
        pytest.raises(ValueError, match=f"a.tif cannot be read: .*{message}|{message}"),
        open_rows(str(tmp_path / "a.tif"), ImageFileReader(channels, **options)) as rows,
    ):
        rows.read(0, 8)


def test_a_damaged_tile_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, COLOR, photometric="rgb", tile=(32, 48), compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        place = tiff.pages[0].dataoffsets[-1]  # type: ignore[union-attr]
    content = bytearray(path.read_bytes())
    content[place : place + 40] = b"x" * 40
    path.write_bytes(content)
    with open_rows(str(path), ImageFileReader(3)) as rows:
        rows.read(0, 32)
        with pytest.raises(ValueError, match=r"a\.tif cannot be read: rows 64 to 79"):
            rows.read(64, 80)


def test_a_missing_file_is_no_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), open_rows(str(tmp_path / "a.tif"), ImageFileReader(3)):
        pass
