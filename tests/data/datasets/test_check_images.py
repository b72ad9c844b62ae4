# SPDX-License-Identifier: Apache-2.0
"""The checks of ISBI 2012 and Kvasir-SEG: right counts on good data, and each damage found and named with its file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from monai_sam2adapter.data import check_isbi2012, check_kvasir, format_report, gray_mask_problem

IMAGE, MASK = "images/phantom0002.jpg", "masks/phantom0002.jpg"


def as_png(path: Path, pixels: Callable[[np.ndarray], np.ndarray]) -> None:
    """Put a PNG file with changed pixels in place of a JPEG file."""
    array = np.asarray(Image.open(path))
    path.unlink()
    Image.fromarray(pixels(array)).save(path.with_suffix(".png"))


def gray(array: np.ndarray) -> np.ndarray:
    return np.where(array[..., 0] < 128, 0, 255).astype(np.uint8)


def half_gray(path: Path, part: float) -> None:
    array = np.asarray(Image.open(path)).copy()
    array[: round(part * len(array))] = 128
    Image.fromarray(array).save(path, quality=92)


def see_through(array: np.ndarray) -> np.ndarray:
    return np.concatenate([array, np.full_like(array[..., :1], 99)], axis=-1)


DAMAGES = {
    "mask-missing": (lambda root: (root / MASK).unlink(), IMAGE, "its mask in .*masks is missing"),
    "image-missing": (lambda root: (root / IMAGE).unlink(), MASK, "a mask without its image"),
    "mask-0-and-1": (
        lambda root: as_png(root / MASK, lambda a: gray(a) // 255),
        MASK.replace("jpg", "png"),
        r"has no value above 1; expected 0 \(black\) and 255 \(white\)",
    ),
    "mask-16-bit": (
        lambda root: as_png(root / MASK, lambda a: gray(a).astype(np.uint16) * 257),
        MASK.replace("jpg", "png"),
        "has the values 0 to 65535; expected 0",
    ),
    "mask-three-classes": (
        lambda root: as_png(root / MASK, lambda a: np.where(np.arange(a.shape[1]) < 9, 127, gray(a)).astype(np.uint8)),
        MASK.replace("jpg", "png"),
        r"has other gray values in .* % of its pixels \(127\); expected 0",
    ),
    "mask-gray-jpeg": (
        lambda root: half_gray(root / MASK, 0.5),
        MASK,
        r"has other gray values in 5\d % of its pixels \(",
    ),
    "mask-colored": (
        lambda root: as_png(root / MASK, lambda a: a * np.array([1, 0, 0], dtype=np.uint8)),
        MASK.replace("jpg", "png"),
        "has colors, expected black and white",
    ),
    "mask-black": (
        lambda root: as_png(root / MASK, np.zeros_like),
        MASK.replace("jpg", "png"),
        "is empty: all pixels are background",
    ),
    "mask-other-size": (
        lambda root: as_png(root / MASK, lambda a: gray(a)[:-1]),
        MASK.replace("jpg", "png"),
        r"has (\d+) x \d+ pixels, its image \1 x \d+",
    ),
    "mask-turned": (
        lambda root: as_png(root / MASK, lambda a: gray(a).T),
        MASK.replace("jpg", "png"),
        r"has (\d+) x (\d+) pixels, its image \2 x \1$",
    ),
    "image-gray": (
        lambda root: as_png(root / IMAGE, lambda a: a[..., 0]),
        IMAGE.replace("jpg", "png"),
        "is gray, expected colors",
    ),
    "image-transparent": (
        lambda root: as_png(root / IMAGE, see_through),
        IMAGE.replace("jpg", "png"),
        "cannot be read: it has transparent pixels",
    ),
    "image-empty": (
        lambda root: as_png(root / IMAGE, np.zeros_like),
        IMAGE.replace("jpg", "png"),
        "is empty: all pixels are equal",
    ),
    "image-truncated": (
        lambda root: (root / IMAGE).write_bytes((root / IMAGE).read_bytes()[:2000]),
        IMAGE,
        "cannot be read: ",
    ),
    "image-no-byte": (lambda root: (root / IMAGE).write_bytes(b""), IMAGE, "cannot be read: "),
    "image-twice": (
        lambda root: (root / IMAGE).write_bytes((root / "images/phantom0000.jpg").read_bytes()),
        IMAGE,
        r"shows the same as .*images/phantom0000\.jpg",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_of_kvasir_is_found_and_named_with_its_file(kvasir_dir: Path, name: str) -> None:
    damage, file, message = DAMAGES[name]
    damage(kvasir_dir)
    report = check_kvasir(kvasir_dir, progress=False)
    found = [problem for problem in report.problems if re.search(message, problem)]
    assert len(found) == 1
    assert found[0].startswith(f"{kvasir_dir / file}: ")
    # a copy has another size than the mask, too; nothing else may be reported
    number = 2 if name == "image-twice" else 1
    assert len(report.problems) == number
    assert found[0] in format_report(report)


def test_16_bit_gray_images_are_named(kvasir_dir: Path) -> None:
    as_png(kvasir_dir / IMAGE, lambda array: array[..., 0].astype(np.uint16) * 200)
    report = check_kvasir(kvasir_dir, progress=False)
    texts = [problem.removeprefix(f"{kvasir_dir / IMAGE.replace('jpg', 'png')}: ") for problem in report.problems]
    assert len(texts) == 2
    assert re.match(r"has values of 16 bits, \d+ to \d+; expected 8", texts[0])
    assert texts[1] == "is gray, expected colors"


def test_some_gray_pixels_of_a_jpeg_mask_are_no_problem(kvasir_dir: Path) -> None:
    half_gray(kvasir_dir / MASK, 0.005)
    assert check_kvasir(kvasir_dir, progress=False).problems == []


def test_good_data_are_counted_and_printed_in_pixels(kvasir_phantom_dir: Path) -> None:
    report = check_kvasir(kvasir_phantom_dir, progress=False)
    assert report.problems == []
    sizes = {"train": 4, "val": 1, "test": 1}
    assert report.counts == {f"fold {k} {part}": {"images": n} for k in range(5) for part, n in sizes.items()}
    masks = [np.asarray(Image.open(path))[..., 0] for path in sorted((kvasir_phantom_dir / "masks").iterdir())]
    white = sum(int((mask > 127).sum()) for mask in masks)
    np.testing.assert_array_equal(report.voxels, [sum(mask.size for mask in masks) - white, white])
    np.testing.assert_array_equal(report.volumes_with_class, [6, 6])
    assert report.shapes == [mask.shape[::-1] for mask in masks]
    text = format_report(report)
    assert "images with it" in text
    assert " pixels\n" in text
    assert "spacing" not in text


def test_isbi_counts_every_fold_and_membranes_are_class_1(isbi2012_phantom_dir: Path) -> None:
    report = check_isbi2012(isbi2012_phantom_dir, progress=False)
    assert report.problems == []
    assert [report.counts[f"fold {k} test"] for k in range(3)] == [{"slices": 2}] * 3
    with Image.open(isbi2012_phantom_dir / "train-labels.tif") as stack:
        pages = np.stack([np.asarray(page) for page in ImageSequence.Iterator(stack)])
    np.testing.assert_array_equal(report.voxels, [(pages == 255).sum(), (pages == 0).sum()])
    assert set(report.shapes) == {(512, 512)}


def test_damages_of_isbi_are_named_with_the_page(isbi2012_dir: Path) -> None:
    images, labels = (isbi2012_dir / name for name in ("train-volume.tif", "train-labels.tif"))
    pages = {}
    for path in (images, labels):
        with Image.open(path) as stack:
            pages[path] = [np.asarray(page).copy() for page in ImageSequence.Iterator(stack)]
    pages[images][1] = pages[images][4]
    pages[labels][2][5, 6] = 100
    pages[labels][3][:] = 255
    for path, (first, *others) in {images: pages[images], labels: pages[labels][:5]}.items():
        Image.fromarray(first).save(path, save_all=True, append_images=[Image.fromarray(page) for page in others])
    report = check_isbi2012(isbi2012_dir, progress=False)
    assert report.problems == [
        f"{labels}: has 5 pages, train-volume.tif 6",
        f"{labels}#page=2: has other gray values in 0.00038 % of its pixels (100); expected 0 (black) and 255 (white)",
        f"{labels}#page=3: is empty: all pixels are cell",
        f"{images}#page=4: shows the same as {images}#page=1, pixel by pixel",
    ]


def test_slices_beyond_the_split_of_the_package_are_a_problem(isbi2012_dir: Path, tmp_path: Path) -> None:
    for name, folder in (("train-volume.tif", "images"), ("train-labels.tif", "labels")):
        (isbi2012_dir / folder).mkdir()
        with Image.open(isbi2012_dir / name) as stack:
            for k, page in zip((0, 1, 2, 3, 4, 30), ImageSequence.Iterator(stack), strict=True):
                page.save(isbi2012_dir / folder / f"{k}.png")
        (isbi2012_dir / name).unlink()
    assert check_isbi2012(isbi2012_dir, progress=False).problems == [
        f"{isbi2012_dir}/images/30.png: slice_30 is in no part of the split in the package, which ends at slice_29; "
        f"is it numbered rightly?"
    ]
    own = tmp_path / "own.json"
    own.write_text('{"train": ["slice_00"], "val": ["slice_01"], "test": ["slice_02"]}')
    assert check_isbi2012(isbi2012_dir, own, progress=False).problems == []


def test_lists_that_do_not_fit_the_images_are_a_problem(kvasir_dir: Path) -> None:
    (kvasir_dir / "train.txt").write_text("phantom0000\nphantom0003\nphantom0004\n")
    (kvasir_dir / "val.txt").write_text("phantom0001\nphantom0002\nabsent\n")
    assert check_kvasir(kvasir_dir, progress=False).problems == [
        f"{kvasir_dir}/val.txt: names 1 that are not in {kvasir_dir}/images: absent",
        f"{kvasir_dir}/train.txt: neither it nor val.txt names 1 of the images, which are in no part: phantom0005",
    ]


def test_a_stack_that_cannot_be_read_is_a_problem(isbi2012_dir: Path) -> None:
    (isbi2012_dir / "train-labels.tif").write_bytes(b"II*\x00")
    problems = check_isbi2012(isbi2012_dir, progress=False).problems
    assert any(problem.startswith(f"{isbi2012_dir}/train-labels.tif: cannot be read (4 bytes)") for problem in problems)


def test_a_part_without_a_case_is_a_problem(kvasir_phantom_dir: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text('{"train": ["phantom0000"], "val": ["phantom0001"], "test": []}')
    report = check_kvasir(kvasir_phantom_dir, own, progress=False)
    assert report.problems == [f"{kvasir_phantom_dir}: no image of the part 'test' of the split"]
    assert report.counts["in no part"] == {"images": 4}


@pytest.mark.parametrize(
    ("mask", "file", "problem"),
    [
        pytest.param([0, 255], "a.png", "", id="black-and-white"),
        pytest.param([0, 7, 248, 255], "a.png", "", id="once-a-jpeg"),
        pytest.param([0, 0], "a.png", "", id="black"),
        pytest.param([255, 255], "a.png", "", id="white"),
        pytest.param([], "a.png", "has no pixels", id="empty"),
        pytest.param([0, np.nan], "a.tif", "has the values nan to nan", id="nan"),
        pytest.param([-1, 255], "a.tif", "has the values -1 to 255", id="negative"),
        pytest.param([0, 0.5, 1], "a.tif", "has no value above 1", id="probabilities"),
        pytest.param([0, 40, 80, 120, 160, 200, 255], "a.jpg", r"\(40, 80, 120, 160, 200\)", id="classes"),
        pytest.param(list(range(256)), "a.jpg", r"\(33, 34, 35, 36, 37, \.\.\.\)", id="ramp"),
    ],
)
def test_masks_that_a_threshold_would_cut_wrongly(mask: list[float], file: str, problem: str) -> None:
    text = gray_mask_problem(np.array(mask), file)
    assert re.search(problem, text)
    assert bool(text) == bool(problem)


def test_the_real_samples_have_no_problem(shared_data: Path) -> None:
    isbi = check_isbi2012(shared_data / "isbi2012", progress=False)
    kvasir = check_kvasir(shared_data / "kvasir_seg", progress=False)
    assert isbi.problems == kvasir.problems == []
    assert len(isbi.shapes) == 30
    assert len(kvasir.shapes) == 5
    assert 0.15 < isbi.voxels[1] / isbi.voxels.sum() < 0.3
