# SPDX-License-Identifier: Apache-2.0
"""The checks of volumes and pictures: each kind of damage is found once and named with its file; the printed report."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from monai_sam2adapter.data import (
    DatasetReport,
    check_image_and_label,
    check_images_and_masks,
    format_report,
    gray_mask_problem,
)

Change = Callable[[np.ndarray], np.ndarray]
SHAPE = (6, 5, 4)


def same(array: np.ndarray) -> np.ndarray:
    return array


def put(value: float, dtype: str = "float32") -> Change:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.astype(dtype)
        array[0, 0, 0] = value
        return array

    return change


def write(
    folder: Path, image: Change = same, label: Change = same, shift: Any = 0, seed: int = 0, scale: float = 1
) -> dict[str, str]:
    """A CT with all values and its labels 0 to 3; the labels' affine may be off by ``shift``."""
    rng = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    paths = {key: str(folder / f"{key}.nii.gz") for key in ("image", "label")}
    voxels = rng.integers(-1000, 1000, SHAPE).astype(np.int16)
    voxels[0, 0] = -1000, 900, 0, 0
    affine = np.diag([2.0 * scale, 2, 3, 1])
    nib.save(nib.Nifti1Image(image(voxels), affine), paths["image"])
    nib.save(nib.Nifti1Image(label(rng.integers(0, 4, SHAPE).astype(np.uint8)), affine + shift), paths["label"])
    return paths


def check_volumes(*cases: dict[str, str], hounsfield: bool = True) -> DatasetReport:
    report = DatasetReport("set", "folder", ("background", "a", "b", "c"))
    for case in cases:
        check_image_and_label(**case, report=report, hounsfield=hounsfield)
    return report


def rgb(array: np.ndarray) -> np.ndarray:
    return np.zeros(array.shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])


SHIFT, STRETCH = np.eye(4, k=3) * 5, np.diag([0.5, 0, 0, 0])


class TestVolumes:
    @pytest.mark.parametrize(
        ("file", "changes", "message"),
        [
            pytest.param("label", {"label": lambda a: a[..., 1:]}, "has the shape .* its image", id="other-shape"),
            pytest.param("label", {"shift": STRETCH}, r"voxels are up to .* mm apart \(spacing", id="other-spacing"),
            pytest.param("label", {"shift": SHIFT}, "lies elsewhere", id="other-place"),
            pytest.param("label", {"label": put(4)}, r"1 voxels of other labels \(4\); expected 0 to 3", id="label-4"),
            pytest.param("label", {"label": put(-1, "int16")}, r"other labels \(-1\)", id="label-below-0"),
            pytest.param("label", {"label": put(0.5)}, r"1 voxels that are not integers \(0\.5\)", id="fraction"),
            pytest.param("label", {"label": put(np.nan)}, r"not integers \(nan\)", id="label-nan"),
            pytest.param("label", {"label": np.zeros_like}, "no voxel of any class but background", id="label-empty"),
            pytest.param("image", {"image": put(np.nan)}, "has 1 NaN and 0 infinite voxels", id="nan"),
            pytest.param("image", {"image": put(np.inf)}, "has 0 NaN and 1 infinite voxels", id="inf"),
            pytest.param("image", {"image": np.zeros_like}, "is empty: all voxels are equal", id="constant"),
            pytest.param("image", {"image": rgb}, "expected one real number a voxel", id="color"),
            pytest.param(
                "image",
                {"image": lambda a: a + 1024},
                r"not in Hounsfield units: values from \d+ to \d+, expected air near -1000 and bone above 100",
                id="not-rescaled",
            ),
            pytest.param(
                "image",
                {"image": lambda a: np.where(a == -1000, -1100, a) + 1024},
                "not in Hounsfield units: values from -76 to",
                id="not-rescaled-with-noise",
            ),
            pytest.param("image", {"image": lambda a: a.clip(-125, 275)}, "values from -125 to 275", id="clipped"),
            pytest.param(
                "image",
                {"image": lambda a: ((a.clip(-125, 275) + 125) / 400).astype(np.float32)},
                "not in Hounsfield units: values from 0 to 1,",
                id="0-to-1",
            ),
            pytest.param(
                "image",
                {"image": lambda a: ((a - a.mean()) / a.std()).astype(np.float32)},
                "not in Hounsfield units: values from -",
                id="standardized",
            ),
            pytest.param(
                "image",
                {"image": lambda a: a.astype(np.float32) + 0.25},
                "has values that are not integers",
                id="fractions",
            ),
        ],
    )
    def test_damage_is_found_once(self, file: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
        paths = write(tmp_path, **changes)
        (problem,) = check_volumes(paths).problems
        assert problem.startswith(f"{paths[file]}: ")
        assert re.search(message, problem)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            pytest.param({"image": lambda a: a[..., None].repeat(2, -1)}, "has 4 dimensions", id="4d"),
        ],
    )
    def test_another_shape_of_the_image_shows_at_the_label_too(
        self, changes: dict[str, Any], message: str, tmp_path: Path
    ) -> None:
        paths = write(tmp_path, **changes)
        first, second = check_volumes(paths).problems
        assert first.startswith(f"{paths['image']}: {message}")
        assert second.startswith(f"{paths['label']}: has the shape")

    @pytest.mark.parametrize(("file", "size"), [("image", 100), ("label", 0)])
    def test_a_file_that_cannot_be_read_is_a_problem(self, file: str, size: int, tmp_path: Path) -> None:
        paths = write(tmp_path)
        Path(paths[file]).write_bytes(Path(paths[file]).read_bytes()[:size])
        (problem,) = check_volumes(paths).problems
        assert problem.startswith(f"{paths[file]}: cannot be read ({size} bytes)")

    def test_no_voxels_are_a_problem(self, tmp_path: Path) -> None:
        paths = write(tmp_path, image=lambda a: a[..., :0])
        (problem,) = check_volumes(paths).problems
        assert problem.startswith(f"{paths['image']}: holds no voxels")

    def test_a_zero_spacing_is_a_problem(self, tmp_path: Path) -> None:
        paths = write(tmp_path)
        for path in paths.values():
            volume = nib.load(path)
            volume.header.set_sform(np.diag([0.0, 1, 1, 1]), code=1)
            nib.save(nib.Nifti1Image(np.asarray(volume.dataobj), None, volume.header), path)
        problems = check_volumes(paths).problems
        assert re.search(r"image\.nii\.gz: .*its header has the affine \[\[0.0, 0.0", problems[0])
        assert len(problems) == 2

    def test_good_volumes_have_no_problem(self, tmp_path: Path) -> None:
        tiny = np.diag([1e-6, 0, 0, 0])
        cases = [write(tmp_path / "a", shift=tiny), write(tmp_path / "b", seed=1, scale=2)]
        report = check_volumes(*cases, {"image": "", "label": ""})
        assert report.problems == []
        assert report.shapes == [SHAPE, SHAPE]
        assert report.spacings == [(2, 2, 3), (4, 2, 3)]
        assert report.voxels.sum() == 2 * np.prod(SHAPE)
        assert report.volumes_with_class.tolist() == [2, 2, 2, 2]
        # another unit than HU
        assert check_volumes(write(tmp_path / "c", image=lambda a: a + 2000), hounsfield=False).problems == []

    def test_a_copy_is_found_whatever_its_type_and_place(self, tmp_path: Path) -> None:
        first, copy = write(tmp_path / "a"), write(tmp_path / "b", image=lambda a: a.astype(np.int32), scale=2)
        (problem,) = check_volumes(first, copy).problems
        assert problem == f"{copy['image']}: shows the same as {first['image']}, voxel by voxel"


def test_the_printed_report_has_counts_sizes_and_the_histogram(tmp_path: Path) -> None:
    report = check_volumes(write(tmp_path / "a"), write(tmp_path / "b", seed=1, scale=2))
    report.count("train", volumes=1, slices=4)
    report.count_case({"train": ["a"]}, "b", volumes=1)
    lines = format_report(report).splitlines()
    assert lines[0] == "set in folder"
    assert [line.split() for line in lines[2:4]] == [["volumes", "slices"], ["train", "1", "4"]]
    assert lines[4].split() == ["in", "no", "part", "1", "0"]
    assert "size     6 x 5 x 4 voxels" in lines
    assert "spacing  2-4 x 2 x 3 mm" in lines
    share = 100 * report.voxels[3] / report.voxels.sum()
    assert lines[-3].split() == ["3", "c", str(report.voxels[3]), f"{share:.2f}", "2"]
    assert lines[-1] == "no problems found"
    report.problems.append("a: is bad")
    assert format_report(report).endswith("1 problems:\n  a: is bad")


@pytest.fixture
def picture(tmp_path: Path) -> dict[str, str]:
    """A photograph of colors and its mask of three equal channels, JPEG."""
    rng = np.random.default_rng(0)
    mask = np.zeros((24, 16, 3), np.uint8)
    mask[8:16, :8] = 255
    paths = {key: str(tmp_path / f"{key}.jpg") for key in ("image", "label")}
    Image.fromarray(rng.integers(0, 255, mask.shape, dtype=np.uint8)).save(paths["image"])
    Image.fromarray(mask).save(paths["label"], quality=95)
    return {**paths, "case": "a"}


def check_pictures(*items: dict[str, str], colored: bool | None = True, **options: Any) -> DatasetReport:
    report = DatasetReport("set", "folder", ("background", "object"), image_word="image", voxel_word="pixel")
    check_images_and_masks(items, {"train": {"a", "b"}}, report, colored, progress=False, **options)
    return report


def as_png(item: dict[str, str], key: str, change: Change) -> dict[str, str]:
    path = Path(item[key]).with_suffix(".png")
    Image.fromarray(change(np.asarray(Image.open(item[key])))).save(path)
    return {**item, key: str(path)}


def gray(array: np.ndarray) -> np.ndarray:
    return np.where(array[..., 0] < 128, 0, 255).astype(np.uint8)


def half_gray(item: dict[str, str], key: str, part: float) -> dict[str, str]:
    array = np.asarray(Image.open(item[key])).copy()
    array[: round(part * len(array))] = 128
    Image.fromarray(array).save(item[key], quality=95)
    return item


def cut(item: dict[str, str], key: str, size: int) -> dict[str, str]:
    Path(item[key]).write_bytes(Path(item[key]).read_bytes()[:size])
    return item


class TestPictures:
    @pytest.mark.parametrize(
        ("key", "damage", "how", "message"),
        [
            pytest.param("label", as_png, lambda a: gray(a) // 255, "has no value above 1; expected 0", id="0-and-1"),
            pytest.param(
                "label",
                as_png,
                lambda a: gray(a).astype(np.uint16) * 257,
                "has the values 0 to 65535; expected 0",
                id="mask-16-bit",
            ),
            pytest.param(
                "label",
                as_png,
                lambda a: np.where(np.arange(16) > 11, 127, gray(a)).astype(np.uint8),
                r"has other gray values in .* % of its pixels \(127\); expected 0",
                id="three-classes",
            ),
            pytest.param("label", half_gray, 0.5, r"other gray values in 5\d % of its pixels \(", id="gray-jpeg"),
            pytest.param(
                "label",
                as_png,
                lambda a: a * np.array([1, 0, 0], dtype=np.uint8),
                "has colors, expected black and white",
                id="mask-colored",
            ),
            pytest.param("label", as_png, np.zeros_like, "is empty: all pixels are background", id="mask-black"),
            pytest.param(
                "label", as_png, lambda a: gray(a)[:-1], "has 16 x 23 pixels, its image 16 x 24", id="other-size"
            ),
            pytest.param("label", as_png, lambda a: gray(a).T, "has 24 x 16 pixels, its image 16 x 24", id="turned"),
            pytest.param("image", as_png, lambda a: a[..., 0], "is gray, expected colors", id="image-gray"),
            pytest.param(
                "image",
                as_png,
                lambda a: np.concatenate([a, np.full_like(a[..., :1], 99)], axis=-1),
                "cannot be read: it has transparent pixels",
                id="transparent",
            ),
            pytest.param("image", as_png, np.zeros_like, "is empty: all pixels are equal", id="image-empty"),
            pytest.param("image", cut, 300, "cannot be read: ", id="truncated"),
            pytest.param("image", cut, 0, "cannot be read: ", id="no-byte"),
        ],
    )
    def test_damage_is_found_once(
        self, key: str, damage: Callable, how: Any, message: str, picture: dict[str, str]
    ) -> None:
        item = damage(picture, key, how)
        (problem,) = check_pictures(item).problems
        assert problem.startswith(f"{item[key]}: ")
        assert re.search(message, problem)

    def test_good_pictures_are_counted(self, picture: dict[str, str]) -> None:
        report = check_pictures(picture)
        assert report.problems == []
        assert report.counts == {"train": {"images": 1}}
        assert (report.shapes, report.spacings) == ([(16, 24)], [])
        assert report.voxels.tolist() == [24 * 16 - 64, 64]
        text = format_report(report)
        assert "images with it" in text
        assert " pixels\n" in text
        assert "spacing" not in text

    def test_the_bright_pixels_may_be_of_class_0(self, picture: dict[str, str]) -> None:
        assert check_pictures(picture, bright_class=0).voxels.tolist() == [64, 24 * 16 - 64]

    def test_copies_gray_pictures_of_16_bits_colors_and_missing_parts_are_found(self, picture: dict[str, str]) -> None:
        (problem,) = check_pictures(picture, {**picture, "image": as_png(picture, "image", same)["image"]}).problems
        assert problem.endswith(f"shows the same as {picture['image']}, pixel by pixel")
        deep = as_png(picture, "image", lambda a: a[..., 0].astype(np.uint16) * 200)
        (first, second) = check_pictures(deep).problems
        assert re.search(r"has values of 16 bits, \d+ to \d+; expected 8", first)
        assert second.endswith("is gray, expected colors")
        (problem,) = check_pictures(picture, colored=False).problems
        assert problem.endswith("has colors, expected gray")
        assert check_pictures().problems == ["folder: no image of the part 'train' of the split"]

    def test_soft_masks_and_masks_without_an_object_may_be_fine(self, picture: dict[str, str]) -> None:
        assert check_pictures(half_gray(picture, "label", 0.5), soft=True, colored=None).problems == []
        empty = as_png(picture, "label", np.zeros_like)
        assert check_pictures(empty, may_be_empty=True).problems == []


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
