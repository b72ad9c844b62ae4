# SPDX-License-Identifier: Apache-2.0
"""Pictures come with the values of the file, the first axis to the right; what would come wrong is an error."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage, LoadImaged
from PIL import Image

from monai_sam2adapter.data import ImageFileReader, LabelScheme
from monai_sam2adapter.transforms import SaveSegmentationd

GRAY = np.random.default_rng(0).integers(0, 256, (4, 6), dtype=np.uint8)  # (Y, X)
COLOR = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
DEEP = np.random.default_rng(2).integers(0, 65536, (4, 6), dtype=np.uint16)
OPAQUE = np.full((4, 6, 1), 255, dtype=np.uint8)


def read(path: Path | str, channels: int | None = None, **options: Any) -> np.ndarray:
    reader = ImageFileReader(channels, **options)
    return reader.get_data(reader.read(path))[0]


def save(pixels: np.ndarray | Image.Image, path: Path, **kwargs: Any) -> Path:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **kwargs)
    return path


@pytest.mark.parametrize("extension", ["png", "bmp", "tif", "tiff"])
@pytest.mark.parametrize("pixels", [GRAY, COLOR], ids=["gray", "color"])
def test_values_and_axes_are_those_of_the_file(tmp_path: Path, extension: str, pixels: np.ndarray) -> None:
    path = save(pixels, tmp_path / f"a.{extension}")
    np.testing.assert_array_equal(read(path), pixels.swapaxes(0, 1))


@pytest.mark.parametrize(("pixels", "shape"), [(GRAY, (1, 6, 4)), (COLOR, (3, 6, 4))], ids=["gray", "color"])
def test_monai_loads_it_with_the_channels_first(tmp_path: Path, pixels: np.ndarray, shape: tuple[int, ...]) -> None:
    path = save(pixels, tmp_path / "a.png")
    image = LoadImage(reader=ImageFileReader(), ensure_channel_first=True)(path)
    assert image.shape == shape
    np.testing.assert_array_equal(image.affine, np.eye(4))
    assert image.meta["filename_or_obj"] == str(path)
    assert tuple(image.meta["spatial_shape"]) == (6, 4)
    np.testing.assert_array_equal(image[-1], (pixels if pixels.ndim == 2 else pixels[..., -1]).T)


def test_channels_are_converted(tmp_path: Path) -> None:
    gray, color, deep = (
        save(pixels, tmp_path / f"{name}.png") for name, pixels in {"g": GRAY, "c": COLOR, "d": DEEP}.items()
    )
    np.testing.assert_array_equal(read(gray, 3), np.stack([GRAY.T] * 3, axis=-1))
    np.testing.assert_array_equal(read(deep, 3), np.stack([DEEP.T] * 3, axis=-1))
    np.testing.assert_array_equal(read(deep, 1), DEEP.T)
    np.testing.assert_array_equal(read(color, 3), COLOR.swapaxes(0, 1))
    stored_as_rgb = save(np.stack([GRAY] * 3, axis=-1), tmp_path / "r.png")
    np.testing.assert_array_equal(read(stored_as_rgb, 1), GRAY.T)


def test_colors_are_not_made_gray_without_a_word(tmp_path: Path) -> None:
    path = save(COLOR, tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png cannot be read: it has colors, expected gray; convert it"):
        read(path, 1)
    near_gray = np.stack([np.full((4, 6), value, dtype=np.uint8) for value in (100, 100, 101)], axis=-1)
    with pytest.raises(ValueError, match="it has colors, expected gray"):
        read(save(near_gray, path), 1)
    assert 99 <= read(save(near_gray, tmp_path / "a.jpg", quality=50), 1).min() <= 102  # which is its rounding


NUMBERS = np.arange(24, dtype=np.uint8).reshape(4, 6) % 13  # of classes


def in_channel(channel: int) -> np.ndarray:
    return np.stack([NUMBERS if k == channel else 0 * NUMBERS for k in range(3)], axis=-1)


def with_palette(colors: np.ndarray) -> Image.Image:
    image = Image.fromarray(NUMBERS, "P")
    image.putpalette(colors.astype(np.uint8).ravel().tolist())
    return image


COLORS = np.random.default_rng(3).integers(0, 256, (13, 3))
MASKS: dict[str, np.ndarray | Image.Image] = {
    "gray": NUMBERS,
    "equal-channels": np.stack([NUMBERS] * 3, axis=-1),
    "opaque": np.stack([*[NUMBERS] * 3, np.full_like(NUMBERS, 255)], axis=-1),
    **{f"channel-{k}": in_channel(k) for k in range(3)},
    "palette": with_palette(COLORS),
    "dark-palette": with_palette(np.stack([np.zeros(13), np.arange(13), np.zeros(13)], axis=-1)),
    "gray-palette": with_palette(np.stack([np.arange(13)] * 3, axis=-1)),
}


@pytest.mark.parametrize("extension", ["png", "tif", "bmp"])
@pytest.mark.parametrize("name", MASKS)
def test_class_numbers_come_as_they_are_wherever_they_lie(tmp_path: Path, name: str, extension: str) -> None:
    if (name, extension) == ("opaque", "bmp"):
        pytest.skip("Pillow reads no alpha from it")
    path = save(MASKS[name], tmp_path / f"a.{extension}")
    np.testing.assert_array_equal(read(path, labels=True), NUMBERS.T)
    if name.startswith("channel") or name in ("palette", "dark-palette"):  # never a shade of gray
        with pytest.raises(ValueError, match="it has colors, expected gray"):
            read(path, 1)


@pytest.mark.parametrize(("color", "number"), [((128, 128, 128), 7), ((9, 9, 9), 7), ((255, 255, 255), 255)])
def test_a_palette_of_colors_holds_class_numbers_though_all_that_is_used_is_gray(
    tmp_path: Path, color: tuple[int, int, int], number: int
) -> None:
    colors = COLORS.copy()
    colors[0], colors[7] = 0, color
    image = Image.fromarray(7 * (NUMBERS % 2), "P")
    image.putpalette(colors.astype(np.uint8).ravel().tolist())
    # black and white alone is a mask of these, whatever colors the program that wrote it had at hand
    np.testing.assert_array_equal(read(save(image, tmp_path / "a.png"), labels=True), number * (NUMBERS % 2).T)


def test_our_own_segmentations_are_masks(tmp_path: Path) -> None:
    names = tuple(f"class {k}" for k in range(1, 13))
    scheme = LabelScheme(names, tuple(map(tuple, COLORS[1:].tolist())), ({},) * 12)
    save_pred = SaveSegmentationd(tmp_path, scheme, output_format="png")
    save_pred({"pred": MetaTensor(torch.from_numpy(NUMBERS.T.copy())[None]), "case": "a"})
    np.testing.assert_array_equal(read(tmp_path / "a_seg.png", labels=True), NUMBERS.T)


@pytest.mark.parametrize("extension", ["png", "jpg"])
def test_masks_that_show_classes_by_colors_are_refused(tmp_path: Path, extension: str) -> None:
    path = save(COLORS.astype(np.uint8)[NUMBERS], tmp_path / f"a.{extension}")
    with pytest.raises(ValueError, match="it has colors, expected class numbers: gray, by a palette, or in one"):
        read(path, labels=True)


def test_black_and_white_palettes_and_bits_stay_0_and_255(tmp_path: Path) -> None:
    mask = Image.fromarray(NUMBERS % 2, "P")
    mask.putpalette([0, 0, 0, 255, 255, 255])
    for image in (mask, NUMBERS % 2 > 0):
        np.testing.assert_array_equal(read(save(image, tmp_path / "a.png"), labels=True), 255 * (NUMBERS % 2).T)


@pytest.mark.parametrize(("channels", "extension"), [(1, "png"), (3, "png"), (None, "tif")])
def test_deeper_values_than_asked_for_are_an_error(tmp_path: Path, channels: int | None, extension: str) -> None:
    reader = ImageFileReader(channels, max_bits=8)
    path = save(DEEP, tmp_path / f"a.{extension}")
    with pytest.raises(ValueError, match=r"its values have 16 bits \(\d+ to \d+\), expected at most 8; scale them to"):
        reader.get_data(reader.read(path))
    assert read(path).max() > 255
    assert reader.get_data(reader.read(save(GRAY, path)))[0].dtype == np.uint8


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_16_bit_gray_keeps_its_values(tmp_path: Path, extension: str) -> None:
    array = read(save(DEEP, tmp_path / f"a.{extension}"))
    np.testing.assert_array_equal(array, DEEP.T)
    assert array.dtype.isnative


def test_floating_point_tiff_keeps_its_values(tmp_path: Path) -> None:
    pixels = np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6)
    np.testing.assert_array_equal(read(save(pixels, tmp_path / "a.tif")), pixels.T)


def test_1_bit_becomes_0_and_255(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read(save(GRAY > 99, tmp_path / "a.png")), 255 * (GRAY > 99).T)


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    image = Image.fromarray(GRAY % 2, "P")
    image.putpalette([10, 20, 30, 200, 210, 220])
    expected = np.where(GRAY.T[..., None] % 2, [200, 210, 220], [10, 20, 30])
    np.testing.assert_array_equal(read(save(image, tmp_path / "a.png")), expected)


@pytest.mark.parametrize("pixels", [GRAY[..., None], COLOR], ids=["gray", "color"])
def test_an_opaque_alpha_channel_is_dropped_and_another_one_is_an_error(tmp_path: Path, pixels: np.ndarray) -> None:
    path = save(np.concatenate([pixels, OPAQUE], axis=-1), tmp_path / "a.png")
    np.testing.assert_array_equal(read(path), pixels.swapaxes(0, 1).squeeze())
    alpha = OPAQUE.copy()
    alpha[0, 0] = 254
    save(np.concatenate([pixels, alpha], axis=-1), path)
    with pytest.raises(ValueError, match=r"a\.png cannot be read: it has transparent pixels"):
        read(path)


def test_a_transparent_color_of_a_palette_is_an_error(tmp_path: Path) -> None:
    image = Image.fromarray(GRAY % 2, "P")
    image.putpalette([10, 20, 30, 200, 210, 220])
    path = save(image, tmp_path / "a.png", transparency=1)
    with pytest.raises(ValueError, match="has transparent pixels"):
        read(path)


@pytest.mark.parametrize("extension", ["jpg", "png"])
def test_a_photograph_is_turned_upright(tmp_path: Path, extension: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to view
    flat = np.full((8, 16), 200, dtype=np.uint8)
    flat[:, :8] = 50  # dark on the left of the file, on the top for the viewer
    upright = read(save(flat, tmp_path / f"a.{extension}", exif=exif))
    assert upright.shape == (8, 16)
    assert upright[:, :7].max() < 100 < upright[:, 9:].min()


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_tiff_is_turned_by_half_but_refused_on_its_side(tmp_path: Path, compression: str | None) -> None:
    path = save(GRAY, tmp_path / "a.tif", tiffinfo={274: 3}, compression=compression)
    np.testing.assert_array_equal(read(path), GRAY[::-1, ::-1].T)
    save(GRAY, path, tiffinfo={274: 6}, compression=compression)
    with pytest.raises(ValueError, match="it lies on its side"):
        read(path)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    pages = [Image.fromarray(GRAY + np.uint8(k)) for k in range(3)]
    return save(pages[0], tmp_path / "stack.tif", save_all=True, append_images=pages[1:])


def test_a_stack_is_a_volume_and_a_page_a_picture(stack: Path) -> None:
    volume = np.stack([(GRAY + np.uint8(k)).T for k in range(3)], axis=-1)
    np.testing.assert_array_equal(read(stack), volume)
    assert LoadImage(reader=ImageFileReader(), ensure_channel_first=True)(stack).shape == (1, 6, 4, 3)
    for k in (2, 0):
        np.testing.assert_array_equal(read(f"{stack}#page={k}"), volume[..., k])
    image = LoadImage(reader=ImageFileReader())(f"{stack}#page=1")
    assert image.meta["filename_or_obj"] == f"{stack}#page=1"
    np.testing.assert_array_equal(image, volume[..., 1])


def test_a_stack_of_colors_has_them_last(tmp_path: Path) -> None:
    pages = [Image.fromarray(COLOR), Image.fromarray(255 - COLOR)]
    path = save(pages[0], tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    array = read(path)
    assert array.shape == (6, 4, 2, 3)
    np.testing.assert_array_equal(array[:, :, 1], 255 - COLOR.swapaxes(0, 1))


def tiff_with_tag(path: Path, pixels: np.ndarray, tag: int, value: int) -> Path:
    """Pillow does not write such files itself: its 12-byte entry of the tag is changed in the file."""
    content = bytearray(save(pixels, path, tiffinfo={tag: value}).read_bytes())
    for place in range(8, len(content) - 12, 2):
        if int.from_bytes(content[place : place + 2], "little") == tag:
            content[place + 8 : place + 10] = value.to_bytes(2, "little")
            break
    path.write_bytes(content)
    return path


def write_16_bit_colors(path: Path) -> Path:
    """Pillow cannot write one: 1 x 1 pixel, 16 bits a channel, RGB."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header, row = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0), zlib.compress(bytes([0, 1, 2, 3, 4, 5, 6]))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", row) + chunk(b"IEND", b""))
    return path


def test_the_preview_behind_a_photograph_is_left_out(tmp_path: Path) -> None:
    images = [Image.new("RGB", (6, 4), (200, 10, 10)), Image.new("RGB", (6, 4))]
    path = save(images[0], tmp_path / "a.jpg", format="MPO", save_all=True, append_images=images[1:])
    array = read(path)
    assert array.shape == (6, 4, 3)
    assert array[..., 0].min() > 150


def test_knows_its_formats_and_reads_one_file_at_a_time() -> None:
    reader = ImageFileReader()
    assert reader.verify_suffix(["a.PNG", "b.tif#page=3", "c.v2.jpeg"])
    assert not reader.verify_suffix(["a.png", "b.nii.gz"])
    with pytest.raises(ValueError, match="one file at a time, got 2"):
        reader.get_data(reader.read(["a.png", "b.png"]))
    with pytest.raises(ValueError, match="channels is 4, expected 1"):
        ImageFileReader(4)
    with pytest.raises(ValueError, match="max_bits is 7, expected 8, 16 or None"):
        ImageFileReader(max_bits=7)


def save_pages(path: Path, *pages: np.ndarray) -> None:
    first, *others = map(Image.fromarray, pages)
    first.save(path, save_all=True, append_images=others)


def truncated(path: Path) -> None:
    save(np.tile(COLOR, (50, 50, 1)), path)
    path.write_bytes(path.read_bytes()[:3000])


REFUSED = {
    "16-bit-colors": ("a.png", write_16_bit_colors, "its colors have 16 bits, of which only 8 would be read"),
    "16-bit-gray": (
        "a.png",
        lambda path: save(DEEP, path),
        r"its values have 16 bits \(\d+ to \d+\), expected at most 8",
    ),
    "transparent": ("a.png", lambda path: save(np.concatenate([COLOR, OPAQUE - 1], axis=-1), path), "transparent"),
    "colors": ("a.png", lambda path: save(COLOR, path), "it has colors, expected gray; convert it"),
    "unequal-pages": ("a.tif", lambda path: save_pages(path, GRAY, GRAY[:, :5]), "its pages differ in size or kind"),
    "white-is-0": ("a.tif", lambda path: tiff_with_tag(path, DEEP, 262, 0), "stores white as 0 and would be read inv"),
    "signed": ("a.tif", lambda path: tiff_with_tag(path, GRAY, 339, 2), "stores negative numbers in 8 bits"),
    "on-its-side": ("a.tif", lambda path: save(GRAY, path, tiffinfo={274: 6}), "lies on its side"),
    "cmyk": ("a.jpg", lambda path: save(Image.fromarray(COLOR).convert("CMYK"), path), "its colors are CMYK, expected"),
    "truncated": ("a.jpg", truncated, "truncated"),
    "no-byte": ("a.jpg", lambda path: path.write_bytes(b""), "cannot identify"),
    "other-format": ("a.gif", lambda path: save(GRAY, path), "cannot identify"),
    "animation": ("a.png", lambda path: save_pages(path, GRAY, 255 - GRAY), "it is an animation of 2 pictures"),
    "no-such-page": ("a.tif#page=1", lambda path: save(GRAY, path.with_name("a.tif")), "there is no page 1: it has 1"),
    "missing": ("a.png", lambda path: None, "No such file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_not_read_by_another_reader_of_monai(tmp_path: Path, name: str) -> None:
    file, write, message = REFUSED[name]
    write(tmp_path / file)
    load = LoadImaged("image", reader=ImageFileReader(channels=1, max_bits=8), ensure_channel_first=True)
    with pytest.raises((ValueError, OSError), match=message) as error:
        load({"image": str(tmp_path / file)})
    assert str(tmp_path / file) in str(error.value)
    assert isinstance(error.value, FileNotFoundError) or "cannot be read: " in str(error.value)


def test_monai_does_not_stack_several_files(tmp_path: Path) -> None:
    paths = [str(save(GRAY, tmp_path / f"{k}.png")) for k in range(2)]
    with pytest.raises(ValueError, match="one file at a time, got 2"):
        LoadImaged("image", reader=ImageFileReader())({"image": paths})


@pytest.mark.parametrize("extension", ["png", "tif", "bmp"])
def test_a_huge_picture_is_read_where_it_is_allowed(extension: str, tmp_path: Path) -> None:
    path = save(np.zeros((13500, 13500), bool), tmp_path / f"a.{extension}")
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ValueError, match="cannot be read: it has 13500 x 13500 pixels, more than max_pixels, 178"):
        read(path)
    (page,) = ImageFileReader(max_pixels=None).read_pages(path)
    assert page.shape == (13500, 13500)
    assert limit == Image.MAX_IMAGE_PIXELS
    with pytest.raises(ValueError, match="max_pixels is 0, expected at least 1"):
        ImageFileReader(max_pixels=0)
