# SPDX-License-Identifier: Apache-2.0
"""Kvasir-SEG: its lists, its splits and the check of a folder."""

from __future__ import annotations

import shutil
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from monai.transforms import Compose, LoadImaged
from PIL import Image

from monai_sam2adapter.data import KVASIR_CLASS_NAMES, ImageFileReader, check_kvasir, kvasir_datalist
from monai_sam2adapter.transforms import GrayMaskToLabeld

PARTS = ("train", "val", "test")


def cases(dataset_dir: Path) -> dict[str, list[str]]:
    return {part: [item["case"] for item in kvasir_datalist(dataset_dir, part)] for part in PARTS}


def test_items_are_complete_and_parts_share_the_images(kvasir_phantom_dir: Path) -> None:
    parts = cases(kvasir_phantom_dir)
    assert {part: len(names) for part, names in parts.items()} == {"train": 4, "val": 1, "test": 1}
    assert sorted(chain(*parts.values())) == [f"phantom{k:04d}" for k in range(6)]
    name = parts["val"][0]
    assert kvasir_datalist(kvasir_phantom_dir, "val") == [
        {
            "image": str(kvasir_phantom_dir / "images" / f"{name}.jpg"),
            "label": str(kvasir_phantom_dir / "masks" / f"{name}.jpg"),
            "case": name,
        }
    ]


def test_monai_loads_colors_and_polyps_as_class_1(kvasir_phantom_dir: Path) -> None:
    item = kvasir_datalist(kvasir_phantom_dir, "val")[0]
    loaded = Compose(
        [
            LoadImaged("image", reader=ImageFileReader(3), ensure_channel_first=True),
            LoadImaged("label", reader=ImageFileReader(1), ensure_channel_first=True),
            GrayMaskToLabeld("label"),
        ]
    )(item)
    mask = np.asarray(Image.open(item["label"]).convert("L"))
    assert KVASIR_CLASS_NAMES == ("background", "polyp")
    assert loaded["image"].shape == (3, *mask.T.shape)
    np.testing.assert_array_equal(loaded["label"][0], mask.T > 127)
    assert 0 < loaded["label"].mean() < 0.5


def folds_of(root: Path, names: list[str]) -> list[dict[str, list[str]]]:
    """The five folds of a folder of images with these names, which nobody reads."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
        for name in names:
            (root / folder / f"{name}.jpg").touch()
    return [{part: [item["case"] for item in kvasir_datalist(root, part, k)] for part in PARTS} for k in range(5)]


def test_1000_images_split_into_792_88_and_120(tmp_path: Path) -> None:
    names = [f"image{k}" for k in range(1000)]
    folds = folds_of(tmp_path / "all", names)
    split = folds[0]
    assert [len(split[part]) for part in PARTS] == [792, 88, 120]
    assert all(sorted(chain(*fold.values())) == sorted(names) for fold in folds)
    assert len({name for fold in folds for name in fold["test"]}) == 5 * 120
    # of 900 of them, few change their part
    less = folds_of(tmp_path / "less", names[:900])[0]
    assert sum(len(set(less[part]) - set(split[part])) for part in PARTS) < 20
    # the smallest and the largest SHA-256 of these names, found with another program
    assert "image741" in split["test"]
    assert "image720" in split["train"]


def test_folds_of_the_authors_lists_validate_on_other_images(tmp_path: Path) -> None:
    names = [f"image{k}" for k in range(1000)]
    (tmp_path / "train.txt").write_text("\n".join(names[:880]))
    (tmp_path / "val.txt").write_text("\n".join(names[880:]))
    folds = folds_of(tmp_path, names)
    assert all(fold["test"] == sorted(names[880:]) for fold in folds)
    assert len({name for fold in folds for name in fold["val"]}) == 5 * 88


def test_the_lists_of_the_authors_are_taken_where_they_are(kvasir_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    (kvasir_dir / "train.txt").write_text("phantom0000\nphantom0003.jpg\n\nphantom0004\n")
    (kvasir_dir / "val.txt").write_text("phantom0001\r\nphantom0002\r\nabsent\r\n")
    parts = cases(kvasir_dir)
    assert parts["test"] == ["phantom0001", "phantom0002"]
    assert len(parts["val"]) == 1
    assert sorted(parts["train"] + parts["val"]) == ["phantom0000", "phantom0003", "phantom0004"]
    expected = [
        f"{kvasir_dir / 'val.txt'}: names 1 that are not in {kvasir_dir / 'images'}: absent",
        f"{kvasir_dir / 'train.txt'}: neither it nor val.txt names 1 of the images, which are in no part: phantom0005",
    ]
    assert {record.message for record in caplog.records if record.levelname == "WARNING"} == set(expected)
    assert check_kvasir(kvasir_dir, progress=False).problems == expected


def test_broken_lists_are_errors(kvasir_dir: Path) -> None:
    (kvasir_dir / "train.txt").write_text("phantom0000\nphantom0001\n")
    with pytest.raises(ValueError, match=r"val\.txt is missing; expected train\.txt and val\.txt, or none"):
        kvasir_datalist(kvasir_dir, "train")
    (kvasir_dir / "val.txt").write_text("phantom0001\n")
    with pytest.raises(ValueError, match=r"train\.txt and val\.txt both name phantom0001"):
        kvasir_datalist(kvasir_dir, "train")


def test_an_own_split_and_its_folds_are_followed(kvasir_phantom_dir: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text(
        '{"folds": [{"train": ["a"], "val": [], "test": []}, {"train": [], "val": ["phantom0005"], "test": []}]}'
    )
    items = kvasir_datalist(kvasir_phantom_dir, "val", 1, own)
    assert [item["case"] for item in items] == ["phantom0005"]
    with pytest.raises(
        ValueError, match=r"none of the 6 images .* part 'train' of the split file .*own\.json, which has 1"
    ):
        kvasir_datalist(kvasir_phantom_dir, "train", 0, own)
    with pytest.raises(ValueError, match=r"there is no fold 2: split file .*own\.json has 2 folds"):
        kvasir_datalist(kvasir_phantom_dir, "train", 2, own)
    with pytest.raises(ValueError, match=r"there is no fold 5: split of .* has 5 folds, 0 to 4"):
        kvasir_datalist(kvasir_phantom_dir, "train", 5)


def test_the_folder_of_the_unpacked_archive_is_found(kvasir_phantom_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(kvasir_phantom_dir, tmp_path / "Kvasir-SEG")
    assert cases(tmp_path) == cases(kvasir_phantom_dir)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(
            lambda root: (root / "masks/phantom0003.jpg").unlink(),
            r"images/phantom0003\.jpg: its mask in .*masks is missing",
            id="no-mask",
        ),
        pytest.param(
            lambda root: (root / "images/phantom0003.jpg").unlink(),
            r"masks/phantom0003\.jpg: a mask without its image",
            id="no-image",
        ),
        pytest.param(
            lambda root: shutil.copy(root / "masks/phantom0003.jpg", root / "masks/phantom0003.png"),
            r"masks/phantom0003\.png: is there twice, also as .*masks/phantom0003\.jpg",
            id="twice",
        ),
        pytest.param(lambda root: shutil.rmtree(root / "masks"), "is not laid out as Kvasir-SEG", id="no-masks"),
    ],
)
def test_incomplete_folders_are_errors(kvasir_dir: Path, damage: object, message: str) -> None:
    damage(kvasir_dir)  # type: ignore[operator]
    with pytest.raises(ValueError, match=message):
        kvasir_datalist(kvasir_dir, "train")


def test_a_missing_mask_is_a_problem_and_a_part_without_an_image_too(kvasir_dir: Path, tmp_path: Path) -> None:
    (kvasir_dir / "masks/phantom0002.jpg").unlink()
    own = tmp_path / "own.json"
    own.write_text('{"train": ["phantom0000"], "val": ["phantom0001"], "test": []}')
    report = check_kvasir(kvasir_dir, own, progress=False)
    assert report.problems == [
        f"{kvasir_dir}/images/phantom0002.jpg: its mask in {kvasir_dir}/masks is missing",
        f"{kvasir_dir}: no image of the part 'test' of the split",
    ]
    assert report.counts["in no part"] == {"images": 4}


def test_too_few_or_no_images_are_errors(kvasir_dir: Path, tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        for k in range(2, 6):
            (kvasir_dir / folder / f"phantom{k:04d}.jpg").unlink()
    with pytest.raises(ValueError, match="has 2 images, too few to split; give at least 3 or a split_file"):
        kvasir_datalist(kvasir_dir, "train")
    for folder in ("images", "masks"):
        shutil.rmtree(kvasir_dir / folder)
        (kvasir_dir / folder).mkdir()
    with pytest.raises(ValueError, match=r"no picture in .*images"):
        kvasir_datalist(kvasir_dir, "train")
    with pytest.raises(FileNotFoundError, match=r"no folder .*absent"):
        kvasir_datalist(tmp_path / "absent", "train")


def test_good_data_are_counted_and_have_no_problem(kvasir_phantom_dir: Path) -> None:
    report = check_kvasir(kvasir_phantom_dir, progress=False)
    assert report.problems == []
    masks = [np.asarray(Image.open(path).convert("L")) for path in sorted((kvasir_phantom_dir / "masks").iterdir())]
    assert sum(row["images"] for part, row in report.counts.items() if part.startswith("fold 0")) == 6
    assert report.voxels.tolist() == [sum((m < 128).sum() for m in masks), sum((m >= 128).sum() for m in masks)]
    assert report.shapes == [mask.shape[::-1] for mask in masks]


def test_the_real_sample_has_images_in_every_part(shared_data: Path) -> None:
    assert {part: len(names) for part, names in cases(shared_data / "kvasir_seg").items()} == {
        "train": 3,
        "val": 1,
        "test": 1,
    }
    report = check_kvasir(shared_data / "kvasir_seg", progress=False)
    assert (report.problems, len(report.shapes)) == ([], 5)
