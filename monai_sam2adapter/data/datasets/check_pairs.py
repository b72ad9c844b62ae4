# SPDX-License-Identifier: Apache-2.0
"""Checking folders of images and masks before a training relies on them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import chain

from .check import DatasetReport
from .check_images import check_images_and_masks
from .pairs import PAIR_CLASS_NAMES, find_pairs, pair_parts
from .split import name_parts

__all__ = ["check_pairs"]


def check_pairs(
    dataset_dir: str | os.PathLike[str],
    split_file: str | os.PathLike[str] | None = None,
    progress: bool = True,
    task: str = "dichotomous",
    folders: Mapping[str, Sequence[str]] | None = None,
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

    Returns:
        the report.

    Raises:
        FileNotFoundError: when the folder or the split file does not exist.
        ValueError: when the task is unknown, ``folders`` is of another form, none of the folders is there, or the split
            file is no split.
    """
    found, problems = find_pairs(dataset_dir, task, folders)
    folds = pair_parts(found, split_file)
    parts = name_parts(folds) if split_file is not None else {part: set(names) for part, names in folds[0].items()}
    name = f"{task if folders is None else 'own'} pairs"
    report = DatasetReport(
        name, str(dataset_dir), PAIR_CLASS_NAMES, image_word="image", voxel_word="pixel", problems=problems
    )
    items = list(chain(*found.values()))
    check_images_and_masks(items, parts, report, colored=None, progress=progress, soft=True, may_be_empty=True)
    return report
