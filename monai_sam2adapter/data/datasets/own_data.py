# SPDX-License-Identifier: Apache-2.0
"""Anyone's volumes or pictures with labels: their lists, splits and checks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.utils import look_up_option
from tqdm import tqdm

from ...utils.logs import escaping_logger
from ..geometry import place_problem, shape_problem
from ..orientation import VolumeAxes
from ..pixel_values import is_ct
from .case_files import files_of, path_of
from .labels import (
    ColorsOfLabels,
    DepthsOfPictures,
    count_labels,
    find_classes,
    read_picture,
    read_volume,
    to_classes,
    warn_of_units,
)
from .layouts import LABEL_TYPES, LabeledCases, find_labeled_cases
from .overlapping import find_overlapping_classes, overlaps_of, read_masks
from .report import DatasetReport
from .split import SPLIT_PARTS, check_fold, name_parts, order_by_hash, read_folds

__all__ = ["check_pictures", "check_volumes", "picture_datalist", "volume_datalist"]

logger = escaping_logger(__name__)

_NUM_FOLDS = 5


def volume_datalist(
    dataset_dir: str | os.PathLike[str],
    split: str,
    fold: int = 0,
    split_file: str | os.PathLike[str] | None = None,
    label_pattern: str = "*",
    label_type: str = LABEL_TYPES[0],
) -> list[dict[str, Any]]:
    """
    List the volumes of one part of anyone's data, as MONAI's datasets read them with ``VolumeReader``.

    The layouts are those of :py:func:`monai_sam2adapter.data.find_labeled_cases`: a datalist, a folder of nnU-Net or
    the Medical Segmentation Decathlon, or a folder of images and one of labels. The parts are those that the data give:
    the lists of a datalist, or its numbers ``fold``. Otherwise there are five folds (fewer for fewer cases), drawn by
    the SHA-256 of the cases' names, the same on every machine; fold k is the part for validation. The part ``test`` is
    the data's own, where that has labels; else it is the part for validation, and a warning says so.

    Args:
        dataset_dir: the folder, or the datalist.
        split: ``train``, ``val`` or ``test``.
        fold: which fold, from 0 on. Defaults to 0.
        split_file: an own split of the cases' names, a JSON file as ``read_split`` takes it. Defaults to None.
        label_pattern: of a folder of images and one of labels, what labels are called, with ``*`` in place of the
            image's name, such as ``*_mask``. Defaults to "*", the same.
        label_type: "exclusive" or "overlapping", see :py:func:`find_labeled_cases`. Defaults to "exclusive".

    Returns:
        one dictionary a case: ``image`` (a path, or a list with one a channel), ``label`` (a path, or a list with one
        for each class that may overlap) and ``case``.

    Raises:
        FileNotFoundError: when the folder, the datalist or the split file does not exist.
        ValueError: when ``split`` is none of the three, there is no such fold or no case in the part, the layout is
            another one, malformed or incomplete, or there are fewer than two cases to split.
    """
    return _datalist(dataset_dir, "volume", split, fold, split_file, label_pattern, label_type)


def picture_datalist(
    dataset_dir: str | os.PathLike[str],
    split: str,
    fold: int = 0,
    split_file: str | os.PathLike[str] | None = None,
    label_pattern: str = "*",
    label_type: str = LABEL_TYPES[0],
) -> list[dict[str, Any]]:
    """
    List the pictures of one part of anyone's data, as MONAI's datasets read them with ``ImageFileReader``.

    All is as in :py:func:`volume_datalist`, but a picture is one file.

    Args:
        dataset_dir: as in ``volume_datalist``.
        split: as in ``volume_datalist``.
        fold: as in ``volume_datalist``. Defaults to 0.
        split_file: as in ``volume_datalist``. Defaults to None.
        label_pattern: as in ``volume_datalist``. Defaults to "*".
        label_type: as in ``volume_datalist``. Defaults to "exclusive".

    Returns:
        one dictionary a picture: ``image`` and ``label`` (paths, or of labels a list) and ``case``.

    Raises:
        FileNotFoundError: as in ``volume_datalist``.
        ValueError: as in ``volume_datalist``.
    """
    return _datalist(dataset_dir, "picture", split, fold, split_file, label_pattern, label_type)


def check_volumes(
    dataset_dir: str | os.PathLike[str],
    split_file: str | os.PathLike[str] | None = None,
    progress: bool = True,
    ignore_label: int | None = None,
    label_pattern: str = "*",
    label_type: str = LABEL_TYPES[0],
) -> DatasetReport:
    """
    Read anyone's volumes and labels, count what is there and find what is wrong.

    Args:
        dataset_dir: as in ``volume_datalist``.
        split_file: as in ``volume_datalist``; all folds are counted.
        progress: whether to show a progress bar. Defaults to True.
        ignore_label: value of the labels that does not count. Defaults to None: the number of the label ``ignore``,
            where the data name one.
        label_pattern: as in ``volume_datalist``. Defaults to "*".
        label_type: as in ``volume_datalist``. Defaults to "exclusive".

    Returns:
        the report.

    Raises:
        FileNotFoundError: as in ``volume_datalist``.
        ValueError: when there is no case, or the layout or the split file is malformed.
    """
    return _check(dataset_dir, "volume", split_file, progress, ignore_label, label_pattern, label_type)


def check_pictures(
    dataset_dir: str | os.PathLike[str],
    split_file: str | os.PathLike[str] | None = None,
    progress: bool = True,
    ignore_label: int | None = None,
    label_pattern: str = "*",
    label_type: str = LABEL_TYPES[0],
) -> DatasetReport:
    """
    Read anyone's pictures and masks, count what is there and find what is wrong.

    Args:
        dataset_dir: as in ``picture_datalist``.
        split_file: as in ``picture_datalist``; all folds are counted.
        progress: whether to show a progress bar. Defaults to True.
        ignore_label: value of the labels that does not count. Defaults to None: the number of the label ``ignore``,
            where the data name one.
        label_pattern: as in ``volume_datalist``. Defaults to "*".
        label_type: as in ``volume_datalist``. Defaults to "exclusive".

    Returns:
        the report.

    Raises:
        FileNotFoundError: as in ``picture_datalist``.
        ValueError: as in ``check_volumes``.
    """
    return _check(dataset_dir, "picture", split_file, progress, ignore_label, label_pattern, label_type)


def _datalist(
    dataset_dir: str | os.PathLike[str],
    kind: str,
    split: str,
    fold: int,
    split_file: str | os.PathLike[str] | None,
    label_pattern: str,
    label_type: str,
) -> list[dict[str, Any]]:
    part = look_up_option(split, SPLIT_PARTS)
    found = find_labeled_cases(dataset_dir, kind, label_pattern, label_type)
    if found.problems:
        raise ValueError(
            f"{dataset_dir} is not complete: {found.problems[0]}; "
            f"`python -m monai_sam2adapter check {kind}s {dataset_dir}` lists every problem"
        )
    folds = _folds(found, split_file)
    check_fold(fold, len(folds), str(dataset_dir) if split_file is None else f"split file {split_file}")
    wanted = set(folds[fold][part])
    chosen = [case for case in found.all_cases if case["case"] in wanted]
    if not chosen:
        raise ValueError(
            f"none of the {len(found.all_cases)} cases in {dataset_dir} is in the part {part!r} of fold {fold}, which "
            f"has {len(wanted)}; add cases, or give an own split_file"
        )
    for note in found.notes:
        logger.info(note)
    if part == "test" and folds[fold]["test"] == folds[fold]["val"]:
        logger.warning("%s has no labeled cases for testing: the part for validation stands in for them", dataset_dir)
    logger.info(f"{part}: {len(chosen)} {kind}s of {dataset_dir}")
    return chosen


def _folds(found: LabeledCases, split_file: str | os.PathLike[str] | None) -> list[dict[str, list[str]]]:
    """All folds, with the names of the cases in each part."""
    if split_file is not None:
        return read_folds(split_file)
    train, val, test = ([case["case"] for case in found.cases[part]] for part in SPLIT_PARTS)
    if val:
        parts = [val]
    elif found.folds:
        parts = [[name for name in train if found.folds[name] == k] for k in range(max(found.folds.values()) + 1)]
    elif len(train) < 2:
        raise ValueError(
            f"{found.file} has {len(train)} case to train on and none for validation; add cases, or give a split_file"
        )
    else:
        number = min(_NUM_FOLDS, len(train))
        parts = [order_by_hash(train)[k::number] for k in range(number)]
    return [
        {"train": [name for name in train if name not in set(part)], "val": sorted(part), "test": test or sorted(part)}
        for part in parts
    ]


def _check(
    dataset_dir: str | os.PathLike[str],
    kind: str,
    split_file: str | os.PathLike[str] | None,
    progress: bool,
    ignore_label: int | None,
    label_pattern: str,
    label_type: str,
) -> DatasetReport:
    found = find_labeled_cases(dataset_dir, kind, label_pattern, label_type)
    for note in found.notes:
        logger.warning(note)
    if ignore_label is not None:
        found.ignore_label = ignore_label
    parts = name_parts(_folds(found, split_file))
    if split_file is None and not found.cases["test"]:  # where the part for validation stands in for it
        parts = {name: names for name, names in parts.items() if not name.endswith("test")}
    black_and_white = False
    if label_type == "overlapping":
        found.class_names = find_overlapping_classes(found, kind)
    else:
        found.class_names, black_and_white = find_classes(found, kind, progress, found.ignore_label)
    report = DatasetReport(
        f"{kind}s", str(dataset_dir), found.class_names, problems=list(found.problems), image_word=kind
    )
    report.overlapping = label_type == "overlapping"
    report.voxel_word = "voxel" if kind == "volume" else "pixel"
    for part in parts:
        report.count(part, **{f"{kind}s": 0})
    depths, colors = DepthsOfPictures(), ColorsOfLabels()  # of pictures
    for case in tqdm(found.all_cases, desc=f"Checking {kind}s", unit=kind, disable=not progress):
        report.count_case(parts, case["case"], **{f"{kind}s": 1})
        files = files_of(case["image"])
        missing = [file for file in (*files, *files_of(case["label"])) if not path_of(file).exists()]
        if not missing:  # which is a problem of the layout
            _check_case(case, files[0], kind, report, found, black_and_white, depths, colors)
    report.problems += depths.problems()
    report.problems += [
        f"{dataset_dir}: no {kind} of the part {part!r} of the split"
        for part in parts
        if not report.counts[part][f"{kind}s"]
    ]
    return report


def _check_case(
    case: Mapping[str, Any],
    file: str,
    kind: str,
    report: DatasetReport,
    found: LabeledCases,
    black_and_white: bool,
    depths: DepthsOfPictures,
    colors: ColorsOfLabels,
) -> None:
    label_file, channels = files_of(case["label"])[0], len(found.channel_names) if found.channel_names else None
    try:
        image, image_axes = _read(case["image"], kind, channels)
        if report.overlapping:
            labels, label_axes = read_masks(case, kind, found, found.ignore_label)
        else:
            labels, label_axes = _read(case["label"], kind, 1, labels=True)
        places = [image_axes, label_axes]
    except (OSError, ValueError) as error:
        report.problems.append(str(error))
        return
    report.shapes.append(image.shape[1:] if kind == "volume" else image.shape[:0:-1])
    if kind == "picture":
        depths.add(file, image)
    else:
        report.axes[file] = places[0]
        warn_of_units(case["image"], image, list(map(is_ct, found.channel_names or ())))
    if not np.isfinite(image).all():
        report.problems.append(f"{file}: has NaN or infinite {report.voxel_word}s")
    elif any(channel.min() == channel.max() for channel in image):
        report.problems.append(f"{file}: is empty: all {report.voxel_word}s of a channel are equal")
    report.problems += [f"{file}: {problem}" for problem in report.copy_problems(file, list(image))]
    affines = [axes.affine for axes in places]
    problem = shape_problem(image.shape[1:], labels.shape[1:]) or place_problem(image.shape[1:], *affines)
    if problem:
        report.problems.append(f"{label_file}: {problem}")
    if report.overlapping:
        overlaps = overlaps_of(labels)
        counts = overlaps.diagonal()
        report.count_overlaps(overlaps, labels.max(axis=0))
    else:
        try:
            counted = to_classes(labels, label_file, black_and_white, found.ignore_label)
            counts = count_labels(counted, label_file, len(report.class_names))
            if kind == "picture":
                colors.add(label_file, labels)
        except ValueError as error:
            report.problems.append(str(error))
            return
    report.voxels += counts
    report.volumes_with_class += counts > 0
    if kind == "volume" and not counts[int(not report.overlapping) :].any():
        report.problems.append(f"{label_file}: is empty: no voxel of any class but background")


def _read(
    files: str | Sequence[str], kind: str, channels: int | None, labels: bool = False
) -> tuple[np.ndarray, VolumeAxes]:
    if kind == "volume":
        return read_volume(files, channels)
    return read_picture(files_of(files)[0], labels=labels), VolumeAxes(np.eye(4))
