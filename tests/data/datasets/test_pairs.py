# SPDX-License-Identifier: Apache-2.0
"""Folders of images and masks in the layouts of SAM2-UNeXT's tasks: lists, parts and the check."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_sam2adapter.data import (
    PAIR_CLASS_NAMES,
    PAIR_TASKS,
    check_pairs,
    pair_datalist,
    write_pair_phantom,
)

NUMBERS = {"num_train": 4, "num_val": 2, "num_test": 1, "progress": False}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Phantoms of every task; not to be changed."""
    root = tmp_path_factory.mktemp("pairs")
    for task in PAIR_TASKS:
        write_pair_phantom(root / task, task=task, **NUMBERS)
    return {task: root / task for task in PAIR_TASKS}


@pytest.fixture
def custom_dir(roots: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the phantoms in the layout of the task "custom" that a test may damage."""
    return Path(shutil.copytree(roots["custom"], tmp_path / "custom"))


def cases(root: Path, split: str, **kwargs: object) -> list[str]:
    return [item["case"] for item in pair_datalist(root, split, **kwargs)]


class TestLists:
    @pytest.mark.parametrize(
        ("task", "train", "val", "test"),
        [
            ("dichotomous", 4, 2, 4),
            ("camouflaged", 3, 1, 4),
            ("marine_animal", 3, 1, 1),
            ("remote_sensing", 3, 1, 1),
            ("custom", 4, 2, 1),
        ],
    )
    def test_parts_of_every_task(self, task: str, train: int, val: int, test: int, roots: dict[str, Path]) -> None:
        parts = {part: cases(roots[task], part, task=task) for part in ("train", "val", "test")}
        assert {part: len(names) for part, names in parts.items()} == {"train": train, "val": val, "test": test}
        assert not set(parts["train"]) & set(parts["val"])
        item = pair_datalist(roots[task], "train", task)[0]
        images, masks = PAIR_TASKS[task]["train"]
        assert Path(item["image"]).parent == roots[task] / images
        assert Path(item["label"]).parent == roots[task] / masks
        assert item["case"] == f"train_{Path(item['image']).stem}" == f"train_{Path(item['label']).stem}"

    def test_a_test_set_needs_no_other_set(self, roots: dict[str, Path], tmp_path: Path) -> None:
        shutil.copytree(roots["camouflaged"] / "TestDataset" / "NC4K", tmp_path / "TestDataset" / "NC4K")
        assert cases(tmp_path, "NC4K", task="camouflaged") == ["NC4K_0001"]
        with pytest.raises(ValueError, match=r"TestDataset/CAMO/Imgs: there is no such folder, of the set 'CAMO'"):
            cases(tmp_path, "test", task="camouflaged")

    def test_folders_of_ones_own(self, roots: dict[str, Path]) -> None:
        folders = {"train": ["test-images", "test-labels"], "new": ["train-images", "train-labels"]}
        root = roots["remote_sensing"]
        assert cases(root, "test", folders=folders) == [f"new_000{k}" for k in range(1, 5)]
        assert cases(root, "new", folders=folders) == cases(root, "test", folders=folders)

    def test_a_split_file_names_cases_of_all_sets(self, roots: dict[str, Path], tmp_path: Path) -> None:
        own = tmp_path / "own.json"
        own.write_text(json.dumps({"train": ["test_0001"], "val": ["train_0002"], "test": ["val_0001", "val_0002"]}))
        for part, names in json.loads(own.read_text()).items():
            assert cases(roots["custom"], part, task="custom", split_file=own) == names
        with pytest.raises(ValueError, match=r"there is no fold 1: split file .*own\.json has 1 fold"):
            cases(roots["custom"], "train", task="custom", split_file=own, fold=1)

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"split": "dev"}, "'dev'"),
            ({"split": "train", "task": "medical"}, "'medical'"),
            ({"split": "train", "folders": {"train": "images"}}, r"two folders for each set, .* got \{'train': 'im"),
            ({"split": "train", "folders": {}}, r"two folders for each set, .* got \{\}"),
            ({"split": "train", "task": "camouflaged"}, r"TrainDataset/Imgs: there is no such folder.*custom"),
            ({"split": "train", "fold": 1}, "there is no fold 1: the layout 'custom' has 1 fold"),
        ],
        ids=["part", "task", "text for folders", "no folders", "another layout", "fold"],
    )
    def test_what_is_not_there_is_an_error(
        self, kwargs: dict[str, object], message: str, roots: dict[str, Path]
    ) -> None:
        with pytest.raises(ValueError, match=message):
            pair_datalist(roots["custom"], **{"task": "custom", **kwargs})

    def test_no_folder_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(
            FileNotFoundError,
            match=r"no folder .*absent; expected that of dichotomous pairs, with DIS-TR/im and DIS-TR/gt",
        ):
            pair_datalist(tmp_path / "absent", "train")

    def test_a_missing_mask_is_named_with_the_command_that_lists_all(self, custom_dir: Path) -> None:
        (custom_dir / "train/masks/0002.png").unlink()
        message = r"images/0002\.jpg: its mask in .* is missing; `python .* check pairs .*custom --task custom` lists"
        with pytest.raises(ValueError, match=message):
            cases(custom_dir, "train", task="custom")


class TestCheck:
    def test_counts_every_set(self, roots: dict[str, Path]) -> None:
        report = check_pairs(roots["camouflaged"], progress=False, task="camouflaged")
        tests = {name: {"images": 1} for name in ("CAMO", "CHAMELEON", "COD10K", "NC4K")}
        assert report.counts == {"train": {"images": 3}, "val": {"images": 1}, **tests}
        assert report.problems == []
        assert report.class_names == PAIR_CLASS_NAMES
        assert report.volumes_with_class.tolist() == [8, 8]

    def test_an_image_without_an_object_and_a_gray_one_are_fine(self, custom_dir: Path) -> None:
        mask = custom_dir / "train/masks/0001.png"
        Image.fromarray(np.zeros_like(np.asarray(Image.open(mask)))).save(mask)
        image = custom_dir / "train/images/0002.jpg"
        Image.open(image).convert("L").save(image)
        report = check_pairs(custom_dir, progress=False, task="custom")
        assert report.problems == []
        assert report.volumes_with_class.tolist() == [7, 6]

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (
                lambda root: shutil.rmtree(root / "test/masks"),
                r"test/masks: there is no such folder, of the set 'test'",
            ),
            (lambda root: (root / "val/images/0001.jpg").unlink(), r"val/masks/0001\.png: a mask without its image"),
            (
                lambda root: Image.fromarray(np.ones((5, 4), np.uint8)).save(root / "train/masks/0001.png"),
                r"train/masks/0001\.png: has no value above 1; expected 0",
            ),
            (
                lambda root: Image.fromarray(np.full((5, 4), 255, np.uint8)).save(root / "train/masks/0001.png"),
                r"train/masks/0001\.png: has 4 x 5 pixels, its image \d+ x \d+",
            ),
        ],
        ids=["folder", "image", "0 and 1", "size"],
    )
    def test_damages_are_named_with_their_file(self, damage: object, message: str, custom_dir: Path) -> None:
        damage(custom_dir)  # type: ignore[operator]
        report = check_pairs(custom_dir, progress=False, task="custom")
        assert any(re.search(message, problem) for problem in report.problems), report.problems

    def test_a_set_that_is_missing_does_not_end_the_check_of_the_others(self, custom_dir: Path) -> None:
        shutil.rmtree(custom_dir / "test")
        assert len(check_pairs(custom_dir, progress=False, task="custom").problems) == 1

    def test_folds_of_a_split_file_are_counted(self, roots: dict[str, Path], tmp_path: Path) -> None:
        own = tmp_path / "own.json"
        own.write_text(json.dumps({"train": ["train_0001"], "val": ["val_0001"], "test": ["test_0001"]}))
        report = check_pairs(roots["custom"], own, progress=False, task="custom")
        assert report.counts["train"] == {"images": 1}
        assert report.counts["in no part"] == {"images": 4}
