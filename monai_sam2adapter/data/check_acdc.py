# SPDX-License-Identifier: Apache-2.0
"""Checking a folder of ACDC before a training relies on it."""

from __future__ import annotations

import os

from tqdm import tqdm

from .acdc import ACDC_CLASS_NAMES, acdc_layout_problems, find_acdc_patients
from .check import DatasetReport, check_image_and_label
from .split import SPLIT_PARTS, packaged_split_file, read_split

__all__ = ["check_acdc"]

# patients that no part of the split names
_NO_PART = "in no part"


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
    split = read_split(packaged_split_file("acdc") if split_file is None else split_file)
    part_of = {patient: part for part, patients in split.items() for patient in patients}
    patients = find_acdc_patients(dataset_dir)
    report = DatasetReport("ACDC", str(dataset_dir), ACDC_CLASS_NAMES)
    for part in SPLIT_PARTS:
        report.count(part, patients=0, volumes=0, slices=0)
    for patient in patients:
        report.count(part_of.get(patient, _NO_PART), patients=1)
    report.problems += [
        f"{dataset_dir}: no patient of the part {part!r} of the split"
        for part in SPLIT_PARTS
        if not report.counts[part]["patients"]
    ]
    report.problems += acdc_layout_problems(patients)
    frames = [frame for patient in patients.values() for frame in patient]
    for frame in tqdm(frames, desc="Checking ACDC", unit="volume", disable=not progress):
        shape = check_image_and_label(frame["image"], frame["label"], report)
        part = part_of.get(frame["patient"], _NO_PART)
        report.count(part, volumes=1 if frame["image"] else 0, slices=shape[2] if len(shape) == 3 else 0)
    return report
