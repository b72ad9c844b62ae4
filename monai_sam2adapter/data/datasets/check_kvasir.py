# SPDX-License-Identifier: Apache-2.0
"""Checking a folder of Kvasir-SEG before a training relies on it."""

from __future__ import annotations

import os

from .check import DatasetReport
from .check_images import check_images_and_masks
from .kvasir import KVASIR_CLASS_NAMES, find_kvasir_images, kvasir_folds, kvasir_list_problems
from .split import name_parts

__all__ = ["check_kvasir"]


def check_kvasir(
    dataset_dir: str | os.PathLike[str], split_file: str | os.PathLike[str] | None = None, progress: bool = True
) -> DatasetReport:
    """
    Read every image and mask of Kvasir-SEG, count what is there and find what is wrong.

    Args:
        dataset_dir: as in ``kvasir_datalist``.
        split_file: as in ``kvasir_datalist``; all its folds are counted.
        progress: whether to show a progress bar. Defaults to True.

    Returns:
        the report.

    Raises:
        FileNotFoundError: when the folder or the split file does not exist.
        ValueError: when the folder is of another layout or holds no picture, or there is no split of it.
    """
    images, problems = find_kvasir_images(dataset_dir)
    names = [item["case"] for item in images]
    parts = name_parts(kvasir_folds(dataset_dir, names, split_file))
    if split_file is None:
        problems += kvasir_list_problems(dataset_dir, names)
    report = DatasetReport(
        "Kvasir-SEG", str(dataset_dir), KVASIR_CLASS_NAMES, image_word="image", voxel_word="pixel", problems=problems
    )
    check_images_and_masks(images, parts, report, colored=True, progress=progress)
    return report
