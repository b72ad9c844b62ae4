# SPDX-License-Identifier: Apache-2.0
"""ISBI 2012: both layouts, three folds, messages for what cannot be read, and the check of a folder."""

from __future__ import annotations

import json
import shutil
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from monai.transforms import Compose, LoadImaged
from PIL import Image, ImageSequence

from monai_sam2adapter.data import ISBI2012_CLASS_NAMES, ImageFileReader, check_isbi2012, isbi2012_datalist
from monai_sam2adapter.transforms import GrayMaskToLabeld, RequireLabelsd


def unpack(archive: Path, root: Path, image_name: str, label_name: str, first: int = 0) -> None:
    """Write the pages of the archive as single files."""
    for stack, name in (("train-volume.tif", image_name), ("train-labels.tif", label_name)):
        with Image.open(archive / stack) as image:
            for k, page in enumerate(ImageSequence.Iterator(image)):
                path = root / name.format(k + first)
                path.parent.mkdir(parents=True, exist_ok=True)
                page.save(path)


def cases(dataset_dir: Path, *args: object) -> list[str]:
    return [item["case"] for item in isbi2012_datalist(dataset_dir, *args)]  # type: ignore[arg-type]


def test_items_name_the_page_and_the_slice(isbi2012_phantom_dir: Path) -> None:
    items = isbi2012_datalist(isbi2012_phantom_dir, "test")
    assert items == [
        {
            "image": f"{isbi2012_phantom_dir}/train-volume.tif#page={k}",
            "label": f"{isbi2012_phantom_dir}/train-labels.tif#page={k}",
            "case": f"slice_{k:02d}",
        }
        for k in (0, 3)
    ]


def test_parts_and_folds_share_the_slices(isbi2012_phantom_dir: Path) -> None:
    for fold in range(3):
        parts = [cases(isbi2012_phantom_dir, part, fold) for part in ("train", "val", "test")]
        assert all(parts)
        assert sorted(chain(*parts)) == [f"slice_{k:02d}" for k in range(6)]
        assert parts[2] == [f"slice_{k:02d}" for k in range(6) if k % 3 == fold]


def test_monai_loads_membranes_as_class_1(isbi2012_phantom_dir: Path) -> None:
    item = isbi2012_datalist(isbi2012_phantom_dir, "val")[0]
    loaded = Compose(
        [
            LoadImaged(["image", "label"], reader=ImageFileReader(1), ensure_channel_first=True),
            GrayMaskToLabeld("label", threshold=150, bright_class=0),
            RequireLabelsd("label", num_classes=2),
        ]
    )(item)
    assert ISBI2012_CLASS_NAMES == ("cell", "membrane")
    with Image.open(isbi2012_phantom_dir / "train-labels.tif") as stack:
        stack.seek(int(item["case"][-2:]))
        np.testing.assert_array_equal(loaded["label"][0], np.asarray(stack).T == 0)
    membrane = loaded["label"] == 1
    assert loaded["image"][membrane].mean() < loaded["image"][~membrane].mean()


@pytest.mark.parametrize(
    ("image_name", "label_name"),
    [
        pytest.param("images/slice_{:02d}.png", "labels/slice_{:02d}.png", id="same-names"),
        pytest.param("image/{}.png", "label/{}.png", id="bare-numbers"),
        pytest.param("train/image/train-volume{:02d}.bmp", "train/masks/train-labels{:03d}.png", id="other-names"),
    ],
)
def test_folders_of_slices_are_read_as_the_archive(
    isbi2012_phantom_dir: Path, tmp_path: Path, image_name: str, label_name: str
) -> None:
    unpack(isbi2012_phantom_dir, tmp_path, image_name, label_name)
    items = isbi2012_datalist(tmp_path, "train", 1)
    assert [item["case"] for item in items] == cases(isbi2012_phantom_dir, "train", 1)
    for item in items:
        number = int(item["case"][-2:])
        assert item["image"] == str(tmp_path / image_name.format(number))
        assert item["label"] == str(tmp_path / label_name.format(number))


@pytest.mark.parametrize(
    ("numbers", "first", "level", "text"),
    [
        pytest.param(range(6), "slice_00", "INFO", "count from 0", id="from-0"),
        pytest.param(range(1, 31), "slice_00", "INFO", "count from 1", id="from-1"),
        pytest.param(range(1, 7), "slice_01", "WARNING", "neither a slice 0 nor a last slice 30", id="either"),
    ],
)
def test_the_numbering_that_was_assumed_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, numbers: range, first: str, level: str, text: str
) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        for k in numbers:
            Image.new("L", (4, 4)).save(tmp_path / folder / f"{k}.png")
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"train": [f"slice_{k:02d}" for k in range(30)], "val": [], "test": []}))
    with caplog.at_level("INFO"):
        slices = isbi2012_datalist(tmp_path, "train", split_file=own)
    # in the order of the numbers, not of the names
    assert [Path(item["image"]).name for item in slices] == [f"{k}.png" for k in numbers]
    assert slices[0]["case"] == first
    record = caplog.records[0]
    assert (record.levelname, str(tmp_path / "images") in record.message) == (level, True)
    assert text in record.message


def test_other_files_do_not_matter(isbi2012_dir: Path) -> None:
    expected = cases(isbi2012_dir, "test")
    shutil.copy(isbi2012_dir / "train-volume.tif", isbi2012_dir / "test-volume.tif")
    assert cases(isbi2012_dir, "test") == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("train-labels.tif", r"train-labels\.tif: is missing", id="no-labels"),
        pytest.param("train-volume.tif", r"train-volume\.tif: is missing", id="no-images"),
    ],
)
def test_a_missing_stack_is_an_error(isbi2012_dir: Path, name: str, message: str) -> None:
    (isbi2012_dir / name).unlink()
    with pytest.raises(ValueError, match=message):
        isbi2012_datalist(isbi2012_dir, "train")


def test_stacks_of_other_lengths_are_an_error(isbi2012_dir: Path) -> None:
    with Image.open(isbi2012_dir / "train-labels.tif") as stack:
        pages = [page.copy() for page in ImageSequence.Iterator(stack)]
    pages[0].save(isbi2012_dir / "train-labels.tif", save_all=True, append_images=pages[1:5])
    with pytest.raises(ValueError, match=r"train-labels\.tif: has 5 pages, train-volume\.tif 6"):
        isbi2012_datalist(isbi2012_dir, "train")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda root: (root / "labels/3.png").unlink(), r"images/3\.png: its mask .* missing", id="mask"),
        pytest.param(lambda root: (root / "images/3.png").unlink(), r"labels/3\.png: a mask without", id="image"),
        pytest.param(
            lambda root: shutil.copy(root / "images/3.png", root / "images/03.png"),
            r"images/3\.png: is there twice, also as .*images/03\.png",
            id="twice",
        ),
        pytest.param(
            lambda root: shutil.copy(root / "images/3.png", root / "images/last.png"),
            r"images/last\.png: has no number in its name",
            id="no-number",
        ),
    ],
)
def test_incomplete_folders_are_errors(
    isbi2012_phantom_dir: Path, tmp_path: Path, damage: object, message: str
) -> None:
    unpack(isbi2012_phantom_dir, tmp_path, "images/{}.png", "labels/{}.png")
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(ValueError, match=message):
        isbi2012_datalist(tmp_path, "train")


def test_a_stack_among_single_slices_is_an_error(isbi2012_dir: Path) -> None:
    for folder, stack in (("images", "train-volume.tif"), ("labels", "train-labels.tif")):
        (isbi2012_dir / folder).mkdir()
        shutil.move(isbi2012_dir / stack, isbi2012_dir / folder / "0.tif")
    with pytest.raises(ValueError, match=r"images/0\.tif: is a stack of 6 pages, expected one"):
        isbi2012_datalist(isbi2012_dir, "test")


def test_other_layouts_folds_and_parts_are_errors(isbi2012_phantom_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*absent; expected that of ISBI 2012"):
        isbi2012_datalist(tmp_path / "absent", "train")
    with pytest.raises(ValueError, match=r"is not laid out as ISBI 2012; expected train-volume\.tif"):
        isbi2012_datalist(tmp_path, "train")
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    with pytest.raises(ValueError, match=r"no picture in .*images and .*labels"):
        isbi2012_datalist(tmp_path, "train")
    with pytest.raises(ValueError, match=r"there is no fold 3: .* has 3 folds, 0 to 2"):
        isbi2012_datalist(isbi2012_phantom_dir, "train", 3)
    with pytest.raises(ValueError, match="'train'"):
        isbi2012_datalist(isbi2012_phantom_dir, "trian")
    own = tmp_path / "own.json"
    own.write_text('{"train": ["slice_29"], "val": [], "test": []}')
    with pytest.raises(ValueError, match=r"none of the 6 slices .* part 'train' of fold 0 of the split .*own\.json"):
        isbi2012_datalist(isbi2012_phantom_dir, "train", split_file=own)


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


def test_a_stack_that_cannot_be_read_is_a_problem(isbi2012_dir: Path) -> None:
    (isbi2012_dir / "train-labels.tif").write_bytes(b"II*\x00")
    problems = check_isbi2012(isbi2012_dir, progress=False).problems
    assert any(problem.startswith(f"{isbi2012_dir}/train-labels.tif: cannot be read (4 bytes)") for problem in problems)


def test_the_real_archive_has_16_4_and_10_slices_a_fold(shared_data: Path) -> None:
    for fold in range(3):
        counts = [len(isbi2012_datalist(shared_data / "isbi2012", part, fold)) for part in ("train", "val", "test")]
        assert counts == [16, 4, 10]
    report = check_isbi2012(shared_data / "isbi2012", progress=False)
    assert (report.problems, len(report.shapes)) == ([], 30)
    assert 0.15 < report.voxels[1] / report.voxels.sum() < 0.3
