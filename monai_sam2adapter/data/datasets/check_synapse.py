# SPDX-License-Identifier: Apache-2.0
"""Checking a folder of Synapse before a training relies on it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from monai.utils import ensure_tuple
from tqdm import tqdm

from ..readers.transunet import TransUNetArrayReader
from .check import DatasetReport, check_image_and_label
from .split import SPLIT_PARTS, name_parts, read_folds
from .synapse import find_synapse_cases, synapse_layout_problems, synapse_numbering_problems
from .synapse_labels import synapse_class_names, synapse_label_map

__all__ = ["check_synapse"]

logger = logging.getLogger(__name__)


def check_synapse(
    dataset_dir: str | os.PathLike[str], split_file: str | os.PathLike[str] | None = None, progress: bool = True
) -> DatasetReport:
    """
    Read every scan and its labels, or every array, of Synapse, count what is there and find what is wrong.

    An organ that no case has is no problem, but is said in the log.

    Args:
        dataset_dir: as in ``synapse_datalist``.
        split_file: as in ``synapse_datalist``.
        progress: whether to show a progress bar. Defaults to True.

    Returns:
        the report, in the challenge's 14 classes for scans and in TransUNet's 9 for arrays.

    Raises:
        FileNotFoundError: when the folder or the split file does not exist.
        ImportError: when there are .h5 files and h5py is not installed.
        ValueError: when there is no case in the folder, or the split file is none.
    """
    folds = read_folds("synapse" if split_file is None else split_file)
    parts = name_parts(folds)
    cases = find_synapse_cases(dataset_dir)
    reader = TransUNetArrayReader()
    of_arrays = any(reader.verify_suffix(case["image"]) for case in cases.values())
    report = DatasetReport("Synapse", str(dataset_dir), synapse_class_names(9 if of_arrays else 14))
    for part in parts:
        report.count(part, cases=0, slices=0)
    report.problems += synapse_layout_problems(cases)
    report.problems += synapse_numbering_problems(cases) if split_file is None else []
    for name, case in tqdm(cases.items(), desc="Checking Synapse", unit="case", disable=not progress):
        if of_arrays:
            shape = _check_arrays(case, report)
        else:
            shape = check_image_and_label(case["image"], case["label"], report, hounsfield=True)
        report.count_case(parts, name, cases=1, slices=shape[2] if len(shape) == 3 else 0)
    report.problems += [
        f"{dataset_dir}: no case of the part {part!r} of the split"
        for part in SPLIT_PARTS
        if not any(name in fold[part] for fold in folds for name in cases)
    ]
    absent = [name for name, number in zip(report.class_names, report.volumes_with_class, strict=True) if not number]
    if absent:
        logger.warning(f"{dataset_dir}: no case has {', '.join(absent)}")
    return report


def _check_arrays(case: Mapping[str, Any], report: DatasetReport) -> tuple[int, ...]:
    """As ``check_image_and_label``, for the files of one case of TransUNet's arrays."""
    files = ensure_tuple(case["image"])
    voxels = np.zeros_like(report.voxels)
    images = [_check_array_file(path, voxels, report) for path in files]
    arrays = [image for image in images if image is not None]
    if voxels.any() and not voxels[1:].any():
        report.problems.append(f"{files[0]}: its case is empty: no voxel of any class but background")
    report.voxels += voxels
    report.volumes_with_class += voxels > 0
    report.problems += [f"{files[0]}: {problem}" for problem in report.copy_problems(files[0], arrays)]
    in_plane = {array.shape[:2] for array in arrays}
    if len(in_plane) > 1:
        report.problems.append(f"{files[0]}: the slices of its case differ in size: {sorted(in_plane)}")
    if len(in_plane) != 1:
        return ()
    report.shapes.append((*arrays[0].shape[:2], sum(array.shape[2] for array in arrays)))
    return report.shapes[-1]


def _check_array_file(path: str, voxels: np.ndarray, report: DatasetReport) -> np.ndarray | None:
    """Adds to the voxels of each class; returns the image, ``(W, H, D)``."""
    image, label = (_read(path, key, report) for key in ("image", "label"))
    if label is not None:
        classes = np.asarray(synapse_label_map(9)[1])[label]
        voxels += np.bincount(classes.ravel(), minlength=len(voxels))
    if image is None:
        return None
    if not np.isfinite(image).all():
        report.problems.append(f"{path}: has {(~np.isfinite(image)).sum()} NaN or infinite voxels")
    elif image.min() == image.max():
        report.problems.append(f"{path}: is empty: all voxels are equal")
    if label is not None and image.shape != label.shape:
        report.problems.append(f"{path}: its labels have the size {label.shape}, its image {image.shape}")
    return image


def _read(path: str, key: str, report: DatasetReport) -> np.ndarray | None:
    reader = TransUNetArrayReader(key)
    try:
        return reader.get_data(reader.read(path))[0]
    except ValueError as error:  # names the file
        report.problems.append(str(error))
        return None
