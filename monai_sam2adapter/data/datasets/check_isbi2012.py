# SPDX-License-Identifier: Apache-2.0
"""Checking a folder of ISBI 2012 before a training relies on it."""

from __future__ import annotations

import os

from .check import DatasetReport
from .check_images import check_images_and_masks
from .isbi2012 import ISBI2012_CLASS_NAMES, find_isbi2012_slices
from .split import name_parts, read_folds

__all__ = ["check_isbi2012"]


def check_isbi2012(
    dataset_dir: str | os.PathLike[str], split_file: str | os.PathLike[str] | None = None, progress: bool = True
) -> DatasetReport:
    """
    Read every slice and label of ISBI 2012, count what is there and find what is wrong.

    Args:
        dataset_dir: as in ``isbi2012_datalist``.
        split_file: as in ``isbi2012_datalist``; all its folds are counted.
        progress: whether to show a progress bar. Defaults to True.

    Returns:
        the report.

    Raises:
        FileNotFoundError: when the folder or the split file does not exist.
        ValueError: when the folder is of another layout or holds no picture, or the split file is none.
    """
    parts = name_parts(read_folds("isbi2012" if split_file is None else split_file))
    slices, problems = find_isbi2012_slices(dataset_dir)
    report = DatasetReport(
        "ISBI 2012", str(dataset_dir), ISBI2012_CLASS_NAMES, image_word="slice", voxel_word="pixel", problems=problems
    )
    check_images_and_masks(slices, parts, report, colored=False, bright_class=0, progress=progress)
    if split_file is None:
        names = set().union(*parts.values())
        report.problems += [
            f"{item['image'] or item['label']}: {item['case']} is in no part of the split in the package, which ends "
            f"at {max(names)}; is it numbered rightly?"
            for item in slices
            if item["case"] not in names
        ]
    return report
