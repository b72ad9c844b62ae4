# SPDX-License-Identifier: Apache-2.0
"""The Synapse data set (abdominal CT, 13 organs; BTCV): as scans of the challenge, and as the arrays of TransUNet."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.utils import look_up_option

from ..readers.transunet import TransUNetArrayReader
from .split import SPLIT_PARTS, read_split
from .synapse_labels import synapse_class_names

__all__ = ["find_synapse_cases", "synapse_datalist", "synapse_layout_problems", "synapse_numbering_problems"]

logger = logging.getLogger(__name__)

_LAYOUT = (
    "Training/img/img0001.nii.gz with Training/label/label0001.nii.gz as in the archive (Abdomen/RawData.zip), or the "
    "arrays train_npz/case0005_slice000.npz and test_vol_h5/case0001.npy.h5 of TransUNet"
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
    wanted = set(read_split(file, fold)[part])
    cases = find_synapse_cases(dataset_dir)
    chosen = {name: case for name, case in cases.items() if name in wanted}
    if not chosen:
        raise ValueError(
            f"none of the {len(cases)} cases in {dataset_dir} ({_shorten(list(cases))}) is in the part {part!r} of the "
            f"split {file}, which has {len(wanted)}; add cases or give an own split_file"
        )
    problems = synapse_layout_problems(chosen) + (synapse_numbering_problems(cases) if split_file is None else [])
    if problems:
        raise ValueError(
            f"{dataset_dir} is not a complete Synapse folder, expected {_LAYOUT}: {_shorten(problems)}; "
            f"`python -m monai_sam2adapter check synapse {dataset_dir}` lists every problem"
        )
    reader = TransUNetArrayReader()
    if num_classes != 9 and any(reader.verify_suffix(case["image"]) for case in chosen.values()):
        raise ValueError(
            f"{dataset_dir} holds TransUNet's arrays, which have 9 classes, but num_classes is {num_classes}; take 9, "
            f"or the scans of the challenge"
        )
    logger.info(f"Synapse {part}: {len(chosen)} cases of {len(wanted)}")
    return list(chosen.values())


def find_synapse_cases(dataset_dir: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """
    Find every case of a Synapse folder, complete or not.

    Args:
        dataset_dir: as in ``synapse_datalist``.

    Returns:
        for every case, sorted by name, what ``synapse_datalist`` gives for it, with an empty string in place of a path
        that is missing. Of a file that is there both packed (.nii.gz) and not (.nii), it is the latter.

    Raises:
        FileNotFoundError: when the folder does not exist.
        ValueError: when there is no case in it, or an array is there both as slices and as a volume.
    """
    root = Path(dataset_dir).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; expected the Synapse data set: {_LAYOUT}")
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
            f"not the abdomen; expected {_LAYOUT}"
        )
    raise ValueError(f"no case of Synapse in {root}; expected {_LAYOUT}")


def synapse_layout_problems(cases: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """
    Say what is missing or there twice.

    Args:
        cases: what ``find_synapse_cases`` returned, or a part of it.

    Returns:
        one text for every scan without labels, labels without a scan, file that is there both packed and not, and
        gap in the numbers of slices.
    """
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
        problems += [
            f"{path}.gz: is there twice, also as {path}; keep one of them"
            for path in (case["image"], case["label"])
            if path.endswith(".nii") and Path(f"{path}.gz").is_file()
        ]
    return problems


def synapse_numbering_problems(cases: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """
    Find copies that number their cases otherwise than the challenge, for which the split in the package is wrong.

    Args:
        cases: what ``find_synapse_cases`` returned.

    Returns:
        one text when there are cases 0011 to 0020, else nothing.
    """
    foreign = [name for name in _FOREIGN_CASES if name in cases]
    if not foreign:
        return []
    return [
        f"{_first_path(cases[foreign[0]])}: the challenge has no labeled cases 0011 to 0020, here are "
        f"{_shorten(foreign)}; copies with such often count from 0001 to 0030, so that the split in the package would "
        f"mix up its parts: rename the files (0011 to 0030 are 0021 to 0040 there), or give an own split_file"
    ]


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


def _slice_gaps(paths: Sequence[str]) -> list[str]:
    numbers = [int(Path(path).stem.rpartition("_slice")[2]) for path in paths]
    missing = sorted(set(range(numbers[-1] + 1)) - set(numbers))
    if not missing:
        return []
    return [f"{paths[0]}: slices {_shorten([str(number) for number in missing])} of this case are missing"]


def _first_path(case: Mapping[str, Any]) -> str:
    image = case["image"] or case["label"]
    return image[0] if isinstance(image, list) else image


def _shorten(texts: Sequence[str], limit: int = 3) -> str:
    return "; ".join(texts[:limit]) + (f"; and {len(texts) - limit} more" if len(texts) > limit else "")
