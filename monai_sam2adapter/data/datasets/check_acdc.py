# SPDX-License-Identifier: Apache-2.0
"""Checking a folder of ACDC before a training relies on it."""

from __future__ import annotations

import os

from tqdm import tqdm

from .acdc import ACDC_CLASS_NAMES, acdc_layout_problems, find_acdc_patients
from .check import DatasetReport, check_image_and_label
from .split import name_parts, read_folds

__all__ = ["check_acdc"]


def check_acdc(
    dataset_dir: str | os.PathLike[str], split_file: str | os.PathLike[str] | None = None, progress: bool = True
) -> DatasetReport:
    """
    Read every volume and mask of ACDC, count what is there and find what is wrong.

    Args:
        dataset_dir: as in ``acdc_datalist``.
        split_file: as in ``acdc_datalist``.
        progress: whether to show a progress bar. Defaults to True.

    Returns:
        the report.

    Raises:
        FileNotFoundError: when the folder or the split file does not exist.
        ValueError: when there is no patient in the folder, or the split file is none.
    """
    parts = name_parts(read_folds("acdc" if split_file is None else split_file))
    patients = find_acdc_patients(dataset_dir)
    report = DatasetReport("ACDC", str(dataset_dir), ACDC_CLASS_NAMES)
    for part in parts:
        report.count(part, patients=0, volumes=0, slices=0)
    for patient in patients:
        report.count_case(parts, patient, patients=1)
    report.problems += [
        f"{dataset_dir}: no patient of the part {part!r} of the split"
        for part in parts
        if not report.counts[part]["patients"]
    ]
    report.problems += acdc_layout_problems(patients)
    frames = [frame for patient in patients.values() for frame in patient]
    for frame in tqdm(frames, desc="Checking ACDC", unit="volume", disable=not progress):
        shape = check_image_and_label(frame["image"], frame["label"], report)
        slices = shape[2] if len(shape) == 3 else 0
        report.count_case(parts, frame["patient"], volumes=1 if frame["image"] else 0, slices=slices)
    return report
