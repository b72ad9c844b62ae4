# SPDX-License-Identifier: Apache-2.0
"""The ACDC data set (cine MR of the heart, two labeled frames a patient) in the layout of its official archive."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from monai.utils import look_up_option

from .split import SPLIT_PARTS, read_split

__all__ = ["ACDC_CLASS_NAMES", "acdc_datalist", "acdc_layout_problems", "find_acdc_patients"]

logger = logging.getLogger(__name__)

#: what the labels 0 to 3 stand for
ACDC_CLASS_NAMES = ("background", "right ventricle", "myocardium", "left ventricle")

_LAYOUT = "training/patient001/patient001_frame01.nii.gz with patient001_frame01_gt.nii.gz beside it"
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
    wanted = set(read_split(file, fold)[part])
    patients = find_acdc_patients(dataset_dir)
    chosen = {patient: frames for patient, frames in patients.items() if patient in wanted}
    if not chosen:
        raise ValueError(
            f"none of the {len(patients)} patients in {dataset_dir} ({_shorten(list(patients))}) is in the part "
            f"{part!r} of the split {file}, which has {len(wanted)}; add patients or give an own split_file"
        )
    problems = acdc_layout_problems(chosen)
    if problems:
        raise ValueError(
            f"{dataset_dir} is not a complete ACDC folder, expected {_LAYOUT}: {_shorten(problems)}; "
            f"`python -m monai_sam2adapter check acdc {dataset_dir}` lists every problem"
        )
    frames = [frame for patient in chosen.values() for frame in patient]
    logger.info(f"ACDC {part}: {len(frames)} volumes of {len(chosen)} patients of {len(wanted)}")
    return frames


def find_acdc_patients(dataset_dir: str | os.PathLike[str]) -> dict[str, list[dict[str, str]]]:
    """
    Find every patient and frame of an ACDC folder, complete or not.

    Args:
        dataset_dir: as in ``acdc_datalist``.

    Returns:
        for every patient, sorted, the frames as ``acdc_datalist`` gives them, with an empty string in place of the
        path of an image or a mask that is missing. Of a file that is there both packed (.nii.gz) and not (.nii), it is
        the latter.

    Raises:
        FileNotFoundError: when the folder does not exist.
        ValueError: when there is no patient in it.
    """
    root = Path(dataset_dir).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; expected the root of the ACDC archive, with {_LAYOUT}")
    for folder in (root / name for name in _PATIENT_FOLDERS):
        patients = sorted(path for path in folder.glob("patient*") if path.is_dir() and _PATIENT.fullmatch(path.name))
        if patients:
            return {path.name: _find_frames(path) for path in patients}
    raise ValueError(f"no folder patientNNN in {root}; expected the root of the ACDC archive, with {_LAYOUT}")


def acdc_layout_problems(patients: Mapping[str, Sequence[Mapping[str, str]]]) -> list[str]:
    """
    Say what is missing or there twice.

    Args:
        patients: what ``find_acdc_patients`` returned, or a part of it.

    Returns:
        one text for every patient without a frame, frame without a mask, mask without a frame, and file that is there
        both packed and not.
    """
    problems = []
    for patient, frames in patients.items():
        if not frames:
            problems.append(f"{patient}: no frame; expected {patient}_frameNN.nii.gz and {patient}_frameNN_gt.nii.gz")
        for frame in frames:
            if not frame["label"]:
                problems.append(f"{frame['image']}: its mask {frame['case']}_gt.nii.gz is missing")
            if not frame["image"]:
                problems.append(f"{frame['label']}: a mask without its image {frame['case']}.nii.gz")
            problems += [
                f"{path}.gz: is there twice, also as {path}; keep one of them"
                for path in (frame["image"], frame["label"])
                if path.endswith(".nii") and Path(f"{path}.gz").is_file()
            ]
    return problems


def _find_frames(folder: Path) -> list[dict[str, str]]:
    info = _read_info(folder / "Info.cfg")
    frames: dict[str, dict[str, str]] = {}
    for path in sorted(folder.iterdir()):
        match = _FRAME.fullmatch(path.name)
        if match is None or match["patient"] != folder.name or not path.is_file():
            continue
        frame = frames.setdefault(
            match["case"],
            {
                "image": "",
                "label": "",
                "case": match["case"],
                "patient": folder.name,
                "phase": _phase(int(match["frame"]), info),
                "group": info.get("Group", ""),
            },
        )
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


def _shorten(texts: Sequence[str], limit: int = 3) -> str:
    return "; ".join(texts[:limit]) + (f"; and {len(texts) - limit} more" if len(texts) > limit else "")
