# SPDX-License-Identifier: Apache-2.0
"""The list of Kvasir-SEG's images and its splits."""

from __future__ import annotations

import shutil
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from monai.transforms import Compose, LoadImaged
from PIL import Image

from monai_sam2adapter.data import KVASIR_CLASS_NAMES, ImageFileReader, kvasir_datalist
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


def write_names(folder: Path, names: list[str]) -> Path:
    """Images and masks, empty: lists do not open them."""
    for part, ending in (("images", "jpg"), ("masks", "jpg")):
        (folder / part).mkdir(parents=True)
        for name in names:
            (folder / part / f"{name}.{ending}").touch()
    return folder


def fold_of(folder: Path, fold: int = 0) -> dict[str, set[str]]:
    return {part: {item["case"] for item in kvasir_datalist(folder, part, fold)} for part in PARTS}


def test_1000_images_split_into_792_88_and_120(tmp_path: Path) -> None:
    names = [f"image{k}" for k in range(1000)]
    split = fold_of(write_names(tmp_path / "all", names))
    assert [len(split[part]) for part in PARTS] == [792, 88, 120]
    assert set(chain(*split.values())) == set(names)
    less = fold_of(write_names(tmp_path / "less", names[:900]))  # few change their part
    assert sum(len(less[part] - split[part]) for part in PARTS) < 20
    # the smallest and the largest SHA-256 of these names, found with another program
    assert "image741" in split["test"]
    assert "image720" in split["train"]


def test_the_lists_of_the_authors_are_taken_where_they_are(kvasir_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    (kvasir_dir / "train.txt").write_text("phantom0000\nphantom0003.jpg\n\nphantom0004\n")
    (kvasir_dir / "val.txt").write_text("phantom0001\r\nphantom0002\r\nabsent\r\n")
    parts = cases(kvasir_dir)
    assert parts["test"] == ["phantom0001", "phantom0002"]
    assert len(parts["val"]) == 1
    assert sorted(parts["train"] + parts["val"]) == ["phantom0000", "phantom0003", "phantom0004"]
    messages = {record.message for record in caplog.records if record.levelname == "WARNING"}
    assert messages == {
        f"{kvasir_dir / 'val.txt'}: names 1 that are not in {kvasir_dir / 'images'}: absent",
        f"{kvasir_dir / 'train.txt'}: neither it nor val.txt names 1 of the images, which are in no part: phantom0005",
    }


def test_broken_lists_are_errors(kvasir_dir: Path) -> None:
    (kvasir_dir / "train.txt").write_text("phantom0000\nphantom0001\n")
    with pytest.raises(ValueError, match=r"val\.txt is missing; expected train\.txt and val\.txt, or none"):
        kvasir_datalist(kvasir_dir, "train")
    (kvasir_dir / "val.txt").write_text("phantom0001\n")
    with pytest.raises(ValueError, match=r"train\.txt and val\.txt both name phantom0001"):
        kvasir_datalist(kvasir_dir, "train")


def test_folds_test_and_validate_on_other_images(tmp_path: Path) -> None:
    names = [f"image{k}" for k in range(1000)]
    folder = write_names(tmp_path / "all", names)
    folds = [fold_of(folder, fold) for fold in range(5)]
    assert all(set(chain(*fold.values())) == set(names) for fold in folds)
    assert len(set().union(*(fold["test"] for fold in folds))) == 5 * 120
    (folder / "train.txt").write_text("\n".join(names[:880]))
    (folder / "val.txt").write_text("\n".join(names[880:]))
    folds = [fold_of(folder, fold) for fold in range(5)]
    assert all(fold["test"] == set(names[880:]) for fold in folds)
    assert len(set().union(*(fold["val"] for fold in folds))) == 5 * 88


def test_an_own_split_and_its_folds_are_followed(kvasir_phantom_dir: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text(
        '{"folds": [{"train": ["a"], "val": [], "test": []}, {"train": [], "val": ["phantom0005"], "test": []}]}'
    )
    items = kvasir_datalist(kvasir_phantom_dir, "val", 1, own)
    assert [item["case"] for item in items] == ["phantom0005"]
    with pytest.raises(ValueError, match=r"none of the 6 images .* part 'train' of the split file .*, which has 1"):
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


def test_the_real_sample_has_images_in_every_part(shared_data: Path) -> None:
    assert {part: len(names) for part, names in cases(shared_data / "kvasir_seg").items()} == {
        "train": 3,
        "val": 1,
        "test": 1,
    }
