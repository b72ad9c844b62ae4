# SPDX-License-Identifier: Apache-2.0
"""Folders of photographs and of masks of the objects in them, as the tasks of SAM2-UNeXT have them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import chain

from monai.utils import look_up_option

from ...utils.logs import escaping_logger
from .check import check_images_and_masks
from .folders import Layout, pair_images
from .label_names import require_pattern
from .report import DatasetReport
from .split import check_fold, name_parts, order_by_hash, read_folds

__all__ = ["PAIR_CLASS_NAMES", "PAIR_TASKS", "check_pairs", "pair_datalist"]

logger = escaping_logger(__name__)

#: what the classes 0 and 1 stand for; in the files of the masks objects are white
PAIR_CLASS_NAMES = ("background", "object")

_COD_TESTS = ("CAMO", "CHAMELEON", "COD10K", "NC4K")
_DIS_TESTS = ("DIS-TE1", "DIS-TE2", "DIS-TE3", "DIS-TE4")

PAIR_TASKS: dict[str, dict[str, tuple[str, str]]] = {
    "dichotomous": {
        "train": ("DIS-TR/im", "DIS-TR/gt"),
        "val": ("DIS-VD/im", "DIS-VD/gt"),
        **{name: (f"{name}/im", f"{name}/gt") for name in _DIS_TESTS},
    },
    "camouflaged": {
        "train": ("TrainDataset/Imgs", "TrainDataset/GT"),
        **{name: (f"TestDataset/{name}/Imgs", f"TestDataset/{name}/GT") for name in _COD_TESTS},
    },
    "marine_animal": {"train": ("train/Image", "train/Mask"), "test": ("test/Image", "test/Mask")},
    "remote_sensing": {"train": ("train-images", "train-labels"), "test": ("test-images", "test-labels")},
    "custom": {name: (f"{name}/images", f"{name}/masks") for name in ("train", "val", "test")},
}
"""For each task its sets: the folders of the images and of the masks. Those beside ``train`` and ``val`` are tests."""

# of the training images, where there is no set for validation
_VAL_SHARE = 0.1


def pair_datalist(
    dataset_dir: str | os.PathLike[str],
    split: str,
    task: str = "dichotomous",
    folders: Mapping[str, Sequence[str]] | None = None,
    fold: int = 0,
    split_file: str | os.PathLike[str] | None = None,
    label_pattern: str = "*",
) -> list[dict[str, str]]:
    """
    List the image and mask pairs of one part of a data set, as MONAI's datasets read them with ``ImageFileReader``.

    There is one rule for all layouts: a set is a folder of images and a folder of masks, and an image and its mask have
    the same name without extension, or masks are all named by one pattern after their images. The sets of a task are in
    ``PAIR_TASKS``. A case is called ``<set>_<name>``.

    Args:
        dataset_dir: folder that the folders of the sets lie in.
        split: ``train``, ``val``, ``test`` (all test sets together) or the name of one test set. Without a set for it,
            ``val`` is 10 % of the training images, drawn by their names.
        task: which layout, a key of ``PAIR_TASKS``. Defaults to "dichotomous".
        folders: another layout, as ``{"train": ["images", "masks"], "test": ["new", "new_masks"]}``. Defaults to None:
            that of the task.
        fold: which fold, of a split file with several. Defaults to 0.
        split_file: a split of the cases of all sets, a JSON file as ``read_split`` takes it. Defaults to None: each set
            is a part.
        label_pattern: what masks are called, with ``*`` in place of the image's name, such as ``*_mask``. Defaults to
            "*", the same.

    Returns:
        one dictionary a pair, sorted by name, with the keys ``image`` and ``label`` (paths) and ``case``.

    Raises:
        FileNotFoundError: when the folder or the split file does not exist.
        ValueError: when the task, the part or the fold is unknown, a folder is missing, an image has no mask or a mask
            no image, or there is no pair in the part.
    """
    layout, sets = _describe(task, folders), _find_sets(task, folders)
    needed = _needed_sets(split, sets) if split_file is None else sets
    found, problems = _find_pairs(layout, dataset_dir, {name: sets[name] for name in needed}, label_pattern)
    layout.require_complete(dataset_dir, problems)
    folds = _find_parts(found, split_file)
    check_fold(fold, len(folds), f"the layout {task!r}" if split_file is None else f"split file {split_file}")
    wanted = set(chain(*(folds[fold][part] for part in _parts_of(split, folds[fold]))))
    cases = {item["case"]: item for item in chain(*found.values())}
    where = f"part {split!r} of the {'sets' if split_file is None else f'split {split_file}'}"
    chosen = layout.choose(cases, wanted, dataset_dir, where)
    logger.info(f"{task} {split}: {len(chosen)} image and mask pairs")
    return list(chosen.values())


def check_pairs(
    dataset_dir: str | os.PathLike[str],
    split_file: str | os.PathLike[str] | None = None,
    progress: bool = True,
    task: str = "dichotomous",
    folders: Mapping[str, Sequence[str]] | None = None,
    label_pattern: str = "*",
    ignore_label: int | None = None,
) -> DatasetReport:
    """
    Read every image and mask of the sets of a task, count what is there and find what is wrong.

    Gray images and masks with soft edges are fine, as are masks without an object, which some sets have.

    Args:
        dataset_dir: as in ``pair_datalist``.
        split_file: as in ``pair_datalist``; all its folds are counted.
        progress: whether to show a progress bar. Defaults to True.
        task: as in ``pair_datalist``.
        folders: as in ``pair_datalist``.
        label_pattern: as in ``pair_datalist``.
        ignore_label: value of the labels that does not count. Defaults to None: all count.

    Returns:
        the report.

    Raises:
        FileNotFoundError: when the folder or the split file does not exist.
        ValueError: when the task is unknown, ``folders`` is of another form, none of the folders is there, or the split
            file is no split.
    """
    layout = _describe(task, folders)
    found, problems = _find_pairs(layout, dataset_dir, _find_sets(task, folders), label_pattern)
    folds = _find_parts(found, split_file)
    parts = name_parts(folds) if split_file is not None else {part: set(names) for part, names in folds[0].items()}
    report = DatasetReport(
        layout.name,
        str(dataset_dir),
        PAIR_CLASS_NAMES,
        image_word="image",
        voxel_word="pixel",
        problems=problems,
        ignore_label=ignore_label,
    )
    items = list(chain(*found.values()))
    check_images_and_masks(items, parts, report, colored=None, progress=progress, soft=True, may_be_empty=True)
    return report


def _find_sets(task: str, folders: Mapping[str, Sequence[str]] | None) -> Mapping[str, Sequence[str]]:
    """For each set its two folders."""
    look_up_option(task, tuple(PAIR_TASKS))
    if folders is None:
        return PAIR_TASKS[task]
    is_layout = isinstance(folders, Mapping) and folders
    if not is_layout or any(isinstance(pair, str) or len(pair) != 2 for pair in folders.values()):
        raise ValueError(
            f'folders must give two folders for each set, as {{"train": ["images", "masks"]}}, got {folders!r}'
        )
    return folders


def _describe(task: str, folders: Mapping[str, Sequence[str]] | None) -> Layout:
    expected = ", ".join(f"{images} and {masks}" for images, masks in _find_sets(task, folders).values())
    name = f"{task if folders is None else 'own'} pairs"
    return Layout(name, "pairs", f"{expected} (the key folders gives others)", "pairs", f" --task {task}")


def _find_pairs(
    layout: Layout, dataset_dir: str | os.PathLike[str], sets: Mapping[str, Sequence[str]], label_pattern: str
) -> tuple[dict[str, list[dict[str, str]]], list[str]]:
    """The items of each set, with an empty string in place of a path that is missing; the problems of the layout."""
    require_pattern(label_pattern)
    root = layout.open(dataset_dir)
    found: dict[str, list[dict[str, str]]] = {}
    problems = []
    for name, folders in sets.items():
        image_dir, label_dir = (root / folder for folder in folders)
        missing = [folder for folder in (image_dir, label_dir) if not folder.is_dir()]
        if missing:
            problems.append(f"{missing[0]}: there is no such folder, of the set {name!r}")
            continue
        pairs, unpaired = pair_images(image_dir, label_dir, str, label_pattern)
        found[name] = [{**pair, "case": f"{name}_{stem}"} for stem, pair in pairs.items()]
        problems += unpaired if pairs else [f"{image_dir}: no picture; expected PNG, JPEG, BMP or TIFF files"]
    if not found:
        raise ValueError(
            f"{problems[0]}. Expected in {root}: {layout.expected}. Give another task ({', '.join(PAIR_TASKS)}), or "
            'folders as {"train": ["images", "masks"]}'
        )
    return found, problems


def _find_parts(
    found: Mapping[str, Sequence[Mapping[str, str]]], split_file: str | os.PathLike[str] | None
) -> list[dict[str, list[str]]]:
    """The names in each part, for each fold of a split file; without one, one fold with a part for each test set."""
    if split_file is not None:
        return read_folds(split_file)
    parts = {name: [item["case"] for item in items] for name, items in found.items()}
    if "train" in parts and "val" not in parts:
        train = order_by_hash(parts.pop("train"))
        number = max(1, round(_VAL_SHARE * len(train)))
        parts = {"train": sorted(train[number:]), "val": sorted(train[:number]), **parts}
    return [parts]


def _needed_sets(split: str, layout: Mapping[str, Sequence[str]]) -> list[str]:
    """The sets that a part is made of; the others need not be there."""
    if split == "val" and "val" not in layout:
        return ["train"]
    if split == "train":
        return [name for name in ("train", "val") if name in layout]
    return _parts_of(split, layout)


def _parts_of(split: str, parts: Mapping[str, Sequence[str]]) -> list[str]:
    """The part itself, or all test sets for ``test``."""
    tests = [name for name in parts if name not in ("train", "val")]
    if split == "test" and tests:
        return tests
    look_up_option(split, list(parts))
    return [split]
