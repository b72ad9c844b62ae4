# SPDX-License-Identifier: Apache-2.0
"""The Synapse data set (abdominal CT, 13 organs; BTCV): as scans of the challenge, and as the arrays of TransUNet."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.utils import ensure_tuple, look_up_option
from tqdm import tqdm

from ...utils.logs import escaping_logger
from ..readers import TransUNetArrayReader
from .check import check_image_and_label
from .folders import Layout, shorten, twice_problems
from .report import DatasetReport
from .split import SPLIT_PARTS, name_parts, read_folds, read_split
from .synapse_labels import synapse_class_names, synapse_label_map

__all__ = ["check_synapse", "synapse_datalist"]

logger = escaping_logger(__name__)

_LAYOUT = Layout(
    "Synapse",
    "synapse",
    "Training/img/img0001.nii.gz and Training/label/label0001.nii.gz as in the archive (Abdomen/RawData.zip), or the "
    "arrays train_npz/case0005_slice000.npz and test_vol_h5/case0001.npy.h5 of TransUNet",
    "cases",
)
# where the scans are below the folder that the user names: beside each other, as the archive unpacks, as MONAI's
# tutorials put them
_BASE_FOLDERS = (".", "Training", "RawData/Training", "Abdomen/RawData/Training")
_SCAN_FOLDERS = ((".", "."), ("img", "label"), ("imagesTr", "labelsTr"))
_SCAN = re.compile(r"(?P<kind>img|label)(?P<number>\d{4})\.nii(\.gz)?")
_SLICE = re.compile(r"(?P<case>case\d{4})_slice(?P<slice>\d+)\.npz")
_VOLUME = re.compile(r"(?P<case>case\d{4})\.npy\.h5")
# of the same project on synapse.org, and often taken for the abdomen
_CARDIAC_FOLDER = "averaged-training-images"
# the challenge has no labeled cases 0011 to 0020; copies with such count from 0001 to 0030
_FOREIGN_CASES = tuple(f"case{number:04d}" for number in range(11, 21))


def synapse_datalist(
    dataset_dir: str | os.PathLike[str],
    split: str,
    fold: int = 0,
    split_file: str | os.PathLike[str] | None = None,
    num_classes: int = 9,
) -> list[dict[str, Any]]:
    """
    List the cases of one part of Synapse, as MONAI's datasets read them.

    Both kinds of data are listed as whole cases, so that one chain of transforms serves both: scans are one file a
    case; of TransUNet's arrays a case is one ``.h5`` file or the list of all its slices (``TransUNetArrayReader``
    stacks them). Cases of the split that the folder lacks are left out, so that a part of the data set works too; so
    are cases that the split does not name.

    Sources: B. Landman et al., "Multi-Atlas Labeling Beyond the Cranial Vault", MICCAI 2015, Synapse syn3193805 (data
    set and labels); J. Chen et al., "TransUNet", arXiv:2102.04306 (test cases and 9 classes).

    Args:
        dataset_dir: folder with ``Training`` (or ``RawData/Training``) of the challenge's archive in it, or that
            folder itself; or a folder with ``img0001.nii.gz`` and ``label0001.nii.gz`` side by side, or in
            ``imagesTr`` and ``labelsTr``; or the folder with TransUNet's ``train_npz`` and ``test_vol_h5``.
        split: ``train``, ``val`` or ``test``.
        fold: which fold of the split file. Defaults to 0; the file in the package has six.
        split_file: an own split, a JSON file as ``read_split`` takes it, of names such as ``case0001``. Defaults to
            the one in the package, with TransUNet's 12 test cases, and 3 other of its 18 training cases for validation
            in each fold.
        num_classes: the coding that is wanted, as in ``synapse_class_names``; it only serves to refuse arrays of 8
            organs where 13 are asked for. Defaults to 9.

    Returns:
        one dictionary a case, sorted, with the keys ``image`` and ``label`` (a path, or a list of paths for slices)
        and ``case`` (``case0001``).

    Raises:
        FileNotFoundError: when the folder or the split file does not exist.
        ValueError: when ``split`` is none of the three, there is no such fold, the folder holds no case of it or
            other cases than the challenge, a scan or its labels are missing or there twice, slices are missing, or
            ``num_classes`` is more than the data have.
    """
    part = look_up_option(split, SPLIT_PARTS)
    synapse_class_names(num_classes)  # an error for a coding that there is not
    file = "synapse" if split_file is None else split_file
    wanted = read_split(file, fold)[part]
    cases = _find_cases(dataset_dir)
    chosen = _LAYOUT.choose(cases, wanted, dataset_dir, f"part {part!r} of the split {file}")
    numbering = _find_foreign_numbers(cases) if split_file is None else []
    _LAYOUT.require_complete(dataset_dir, _find_problems(chosen) + numbering)
    if num_classes != 9 and _hold_arrays(chosen):
        raise ValueError(
            f"{dataset_dir} holds TransUNet's arrays, which have 9 classes, but num_classes is {num_classes}; take 9, "
            f"or the scans of the challenge"
        )
    logger.info(f"Synapse {part}: {len(chosen)} cases of {len(wanted)}")
    return list(chosen.values())


def check_synapse(
    dataset_dir: str | os.PathLike[str],
    split_file: str | os.PathLike[str] | None = None,
    progress: bool = True,
    ignore_label: int | None = None,
) -> DatasetReport:
    """
    Read every scan and its labels, or every array, of Synapse, count what is there and find what is wrong.

    An organ that no case has is no problem, but is said in the log.

    Args:
        dataset_dir: as in ``synapse_datalist``.
        split_file: as in ``synapse_datalist``; all its folds are counted.
        progress: whether to show a progress bar. Defaults to True.
        ignore_label: value of the labels that does not count. Defaults to None: all count.

    Returns:
        the report, in the challenge's 14 classes for scans and in TransUNet's 9 for arrays.

    Raises:
        FileNotFoundError: when the folder or the split file does not exist.
        ImportError: when there are .h5 files and h5py is not installed.
        ValueError: when there is no case in the folder, or the split file is none.
    """
    folds = read_folds("synapse" if split_file is None else split_file)
    parts = name_parts(folds)
    cases = _find_cases(dataset_dir)
    of_arrays = _hold_arrays(cases)
    report = DatasetReport(
        "Synapse", str(dataset_dir), synapse_class_names(9 if of_arrays else 14), ignore_label=ignore_label
    )
    for part in parts:
        report.count(part, cases=0, slices=0)
    report.problems += _find_problems(cases)
    report.problems += _find_foreign_numbers(cases) if split_file is None else []
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


def _find_cases(dataset_dir: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """For every case what ``synapse_datalist`` gives, with an empty string in place of a path that is missing."""
    root = _LAYOUT.open(dataset_dir)
    for base in _BASE_FOLDERS:
        for names in _SCAN_FOLDERS:
            cases = _find_scans([root / base / name for name in dict.fromkeys(names)])
            if cases:
                return cases
    cases = _find_arrays(root / "train_npz", root / "test_vol_h5")
    if cases:
        return cases
    if _CARDIAC_FOLDER in (root.name, *(path.name for path in root.iterdir())):
        raise ValueError(
            f"{root} holds {_CARDIAC_FOLDER}: those are MR images of the heart from the same project on synapse.org, "
            f"not the abdomen; expected {_LAYOUT.expected}"
        )
    raise ValueError(f"no case of Synapse in {root}; expected {_LAYOUT.expected}")


def _find_scans(folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    cases: dict[str, dict[str, Any]] = {}
    for path in sorted(path for folder in folders if folder.is_dir() for path in folder.iterdir()):
        match = _SCAN.fullmatch(path.name)
        if match is None or not path.is_file():
            continue
        name = f"case{match['number']}"
        case = cases.setdefault(name, {"image": "", "label": "", "case": name})
        key = "image" if match["kind"] == "img" else "label"
        case[key] = case[key] or str(path)  # .nii sorts before .nii.gz
    return dict(sorted(cases.items()))


def _find_arrays(slices: Path, volumes: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, list[tuple[int, str]]] = {}
    for path in slices.glob("case*.npz"):
        if match := _SLICE.fullmatch(path.name):
            found.setdefault(match["case"], []).append((int(match["slice"]), str(path)))
    cases: dict[str, dict[str, Any]] = {}
    for name, numbered in found.items():
        paths = [path for _, path in sorted(numbered)]
        cases[name] = {"image": paths, "label": paths, "case": name}
    for path in volumes.glob("case*.npy.h5"):
        if match := _VOLUME.fullmatch(path.name):
            name = match["case"]
            if name in cases:
                raise ValueError(f"{path} is there twice, also as slices in {slices}; keep one of them")
            cases[name] = {"image": str(path), "label": str(path), "case": name}
    return dict(sorted(cases.items()))


def _hold_arrays(cases: Mapping[str, Mapping[str, Any]]) -> bool:
    reader = TransUNetArrayReader()
    return any(reader.verify_suffix(case["image"]) for case in cases.values())


def _find_problems(cases: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is missing or there twice."""
    problems = []
    for name, case in cases.items():
        number = name.removeprefix("case")
        if not case["label"]:
            problems.append(f"{case['image']}: its labels label{number}.nii.gz are missing")
        if not case["image"]:
            problems.append(f"{case['label']}: labels without their scan img{number}.nii.gz")
        if isinstance(case["image"], list):
            problems += _slice_gaps(case["image"])
            continue
        problems += twice_problems(case["image"], case["label"])
    return problems


def _slice_gaps(paths: Sequence[str]) -> list[str]:
    numbers = [int(Path(path).stem.rpartition("_slice")[2]) for path in paths]
    missing = sorted(set(range(numbers[-1] + 1)) - set(numbers))
    if not missing:
        return []
    return [f"{paths[0]}: slices {shorten([str(number) for number in missing])} of this case are missing"]


def _first_path(case: Mapping[str, Any]) -> str:
    image = case["image"] or case["label"]
    return image[0] if isinstance(image, list) else image


def _find_foreign_numbers(cases: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Whether a copy numbers its cases otherwise than the challenge, so that the split in the package is wrong."""
    foreign = [name for name in _FOREIGN_CASES if name in cases]
    if not foreign:
        return []
    return [
        f"{_first_path(cases[foreign[0]])}: the challenge has no labeled cases 0011 to 0020, here are "
        f"{shorten(foreign)}; copies with such often count from 0001 to 0030, so that the split in the package would "
        f"mix up its parts: rename the files (0011 to 0030 are 0021 to 0040 there), or give an own split_file"
    ]


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
