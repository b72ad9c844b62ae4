# SPDX-License-Identifier: Apache-2.0
"""The ACDC data set (cine MR of the heart, two labeled frames a patient) in the layout of its official archive."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from monai.utils import look_up_option
from tqdm import tqdm

from ...utils.logs import escaping_logger
from .check import check_image_and_label
from .folders import Layout, twice_problems
from .report import DatasetReport
from .split import SPLIT_PARTS, name_parts, read_folds, read_split

__all__ = ["ACDC_CLASS_NAMES", "acdc_datalist", "check_acdc"]

logger = escaping_logger(__name__)

#: what the labels 0 to 3 stand for
ACDC_CLASS_NAMES = ("background", "right ventricle", "myocardium", "left ventricle")

_LAYOUT = Layout(
    "ACDC",
    "acdc",
    "training/patient001/patient001_frame01.nii.gz with patient001_frame01_gt.nii.gz beside it",
    "patients",
)
# where the patients are below the folder that the user names: the patients' own folder, the archive's root, and the
# folder into which the archive of 2023 unpacks
_PATIENT_FOLDERS = (".", "training", "database/training")
_PATIENT = re.compile(r"patient\d{3}")
_FRAME = re.compile(r"(?P<case>(?P<patient>patient\d{3})_frame(?P<frame>\d+))(?P<label>_gt)?\.nii(\.gz)?")


def acdc_datalist(
    dataset_dir: str | os.PathLike[str],
    split: str,
    fold: int = 0,
    split_file: str | os.PathLike[str] | None = None,
) -> list[dict[str, str]]:
    """
    List the frames of one part of ACDC, as MONAI's datasets read them.

    4D files are ignored; ``Info.cfg`` is read where it exists. Patients of the split that the folder lacks are left
    out, so that a part of the data set works too; so are patients that the split does not name.

    Source: O. Bernard et al., "Deep Learning Techniques for Automatic MRI Cardiac Multi-Structures Segmentation and
    Diagnosis: Is the Problem Solved?", IEEE TMI 2018 (data set and layout).

    Args:
        dataset_dir: root of the archive (with ``training`` in it), or the folder of the patients itself.
        split: ``train``, ``val`` or ``test``.
        fold: which fold of the split file. Defaults to 0; the default split has no other.
        split_file: an own split, a JSON file as ``read_split`` takes it. Defaults to the one in the package, which
            takes 14, 2 and 4 of the 20 patients of each pathology; ``acdc_5folds`` has five folds like it.

    Returns:
        one dictionary a frame, sorted by case, all with the keys ``image`` and ``label`` (paths), ``case``
        (``patient001_frame01``), ``patient``, ``phase`` (``ED`` or ``ES``) and ``group`` (pathology); phase and group
        are empty strings when ``Info.cfg`` does not tell.

    Raises:
        FileNotFoundError: when the folder or the split file does not exist.
        ValueError: when ``split`` is none of the three, there is no such fold, the folder holds no patient of it, a
            frame lacks its mask or a mask its frame, or a file is there both packed (.nii.gz) and not (.nii).
    """
    part = look_up_option(split, SPLIT_PARTS)
    file = "acdc" if split_file is None else split_file
    wanted = read_split(file, fold)[part]
    patients = _LAYOUT.choose(_find_patients(dataset_dir), wanted, dataset_dir, f"part {part!r} of the split {file}")
    _LAYOUT.require_complete(dataset_dir, _find_problems(patients))
    frames = list(chain(*patients.values()))
    logger.info(f"ACDC {part}: {len(frames)} volumes of {len(patients)} patients of {len(wanted)}")
    return frames


def check_acdc(
    dataset_dir: str | os.PathLike[str],
    split_file: str | os.PathLike[str] | None = None,
    progress: bool = True,
    ignore_label: int | None = None,
) -> DatasetReport:
    """
    Read every volume and mask of ACDC, count what is there and find what is wrong.

    Args:
        dataset_dir: as in ``acdc_datalist``.
        split_file: as in ``acdc_datalist``; all its folds are counted.
        progress: whether to show a progress bar. Defaults to True.
        ignore_label: value of the labels that does not count. Defaults to None: all count.

    Returns:
        the report.

    Raises:
        FileNotFoundError: when the folder or the split file does not exist.
        ValueError: when there is no patient in the folder, or the split file is none.
    """
    parts = name_parts(read_folds("acdc" if split_file is None else split_file))
    patients = _find_patients(dataset_dir)
    report = DatasetReport("ACDC", str(dataset_dir), ACDC_CLASS_NAMES, ignore_label=ignore_label)
    for part in parts:
        report.count(part, patients=0, volumes=0, slices=0)
    for patient in patients:
        report.count_case(parts, patient, patients=1)
    report.problems += [
        f"{dataset_dir}: no patient of the part {part!r} of the split"
        for part in parts
        if not report.counts[part]["patients"]
    ]
    report.problems += _find_problems(patients)
    frames = list(chain(*patients.values()))
    for frame in tqdm(frames, desc="Checking ACDC", unit="volume", disable=not progress):
        shape = check_image_and_label(frame["image"], frame["label"], report)
        slices = shape[2] if len(shape) == 3 else 0
        report.count_case(parts, frame["patient"], volumes=1 if frame["image"] else 0, slices=slices)
    return report


def _find_patients(dataset_dir: str | os.PathLike[str]) -> dict[str, list[dict[str, str]]]:
    """For every patient the frames, complete or not: with an empty string in place of a path that is missing."""
    root = _LAYOUT.open(dataset_dir)
    for folder in (root / name for name in _PATIENT_FOLDERS):
        patients = sorted(path for path in folder.glob("patient*") if path.is_dir() and _PATIENT.fullmatch(path.name))
        if patients:
            return {path.name: _find_frames(path) for path in patients}
    raise ValueError(f"no folder patientNNN in {root}; expected that of ACDC, with {_LAYOUT.expected}")


def _find_frames(folder: Path) -> list[dict[str, str]]:
    info = _read_info(folder / "Info.cfg")
    frames: dict[str, dict[str, str]] = {}
    for path in sorted(folder.iterdir()):
        match = _FRAME.fullmatch(path.name)
        if match is None or match["patient"] != folder.name or not path.is_file():
            continue
        of = {"patient": folder.name, "phase": _phase(int(match["frame"]), info), "group": info.get("Group", "")}
        frame = frames.setdefault(match["case"], {"image": "", "label": "", "case": match["case"], **of})
        key = "label" if match["label"] else "image"
        frame[key] = frame[key] or str(path)  # .nii sorts before .nii.gz
    return [frames[case] for case in sorted(frames)]


def _read_info(path: Path) -> dict[str, str]:
    """The lines ``name: value`` of an Info.cfg; nothing where there is no such file."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _phase(frame: int, info: Mapping[str, str]) -> str:
    for phase in ("ED", "ES"):
        if info.get(phase, "").isdecimal() and int(info[phase]) == frame:
            return phase
    return ""


def _find_problems(patients: Mapping[str, Sequence[Mapping[str, str]]]) -> list[str]:
    """What is missing or there twice."""
    problems = []
    for patient, frames in patients.items():
        if not frames:
            problems.append(f"{patient}: no frame; expected {patient}_frameNN.nii.gz and {patient}_frameNN_gt.nii.gz")
        for frame in frames:
            if not frame["label"]:
                problems.append(f"{frame['image']}: its mask {frame['case']}_gt.nii.gz is missing")
            if not frame["image"]:
                problems.append(f"{frame['label']}: a mask without its image {frame['case']}.nii.gz")
            problems += twice_problems(frame["image"], frame["label"])
    return problems
