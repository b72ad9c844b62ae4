# SPDX-License-Identifier: Apache-2.0
"""A synthetic ACDC and a synthetic Synapse in the layout of the real ones, to run everything without a download."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ..datasets.split import SPLIT_PARTS, read_split
from .abdominal import AbdominalPhantom
from .cardiac import CardiacPhantom
from .folder import check_number, draw_each, write_phantom_folder

__all__ = ["write_acdc_phantom", "write_synapse_phantom"]

# to be raised when the drawing changes, so that old phantoms are not taken for new ones
_REVISIONS = {"acdc": 1, "synapse": 1}
# the pathologies in the order of ACDC's blocks of 20 patients
_GROUPS = ("DCM", "HCM", "MINF", "NOR", "RV")


def write_acdc_phantom(
    output_dir: str | os.PathLike[str],
    num_train: int = 20,
    num_val: int = 5,
    num_test: int = 5,
    seed: int = 0,
    progress: bool = True,
) -> bool:
    """
    Write synthetic patients in the layout of ACDC: two frames with masks and Info.cfg each, no 4D file.

    The numbers of the patients are such that the split in the package finds as many as asked for in each part, spread
    over the five pathologies. A patient depends on the seed and on its number alone.

    Args:
        output_dir: as in ``write_phantom_folder``.
        num_train: patients to train on, 0 to 70. Defaults to 20.
        num_val: patients to validate on, 0 to 10. Defaults to 5.
        num_test: patients to test on, 0 to 20. Defaults to 5.
        seed: seed of the random numbers, not negative. Defaults to 0.
        progress: whether to show a progress bar. Defaults to True.

    Returns:
        whether anything was written; False when the same phantoms were there.

    Raises:
        ValueError: when a number is out of its range, or the folder holds anything else.
    """
    patients = _choose_cases("acdc", (num_train, num_val, num_test), lambda patient: (int(patient[-3:]) - 1) % 20)

    def write(folder: Path) -> None:
        for patient in draw_each(patients, "patient", progress):
            _write_patient(folder / "training" / patient, seed)

    request = {"data_set": "acdc", "revision": _REVISIONS["acdc"], "patients": patients}
    return write_phantom_folder(output_dir, seed, request, write)


def write_synapse_phantom(
    output_dir: str | os.PathLike[str],
    num_train: int = 8,
    num_val: int = 2,
    num_test: int = 4,
    seed: int = 0,
    progress: bool = True,
) -> bool:
    """
    Write synthetic patients in the layout of the challenge: ``Training/img`` and ``Training/label``, int16 in HU.

    The cases are numbered such that the first fold of the split in the package finds as many as asked for in each
    part. A patient depends on the seed and on its number alone.

    Args:
        output_dir: as in ``write_phantom_folder``.
        num_train: patients to train on, 0 to 15. Defaults to 8.
        num_val: patients to validate on, 0 to 3. Defaults to 2.
        num_test: patients to test on, 0 to 12. Defaults to 4.
        seed: seed of the random numbers, not negative. Defaults to 0.
        progress: whether to show a progress bar. Defaults to True.

    Returns:
        whether anything was written; False when the same phantoms were there.

    Raises:
        ValueError: when a number is out of its range, or the folder holds anything else.
    """
    cases = _choose_cases("synapse", (num_train, num_val, num_test))

    def write(folder: Path) -> None:
        for case in draw_each(cases, "patient", progress):
            number = case.removeprefix("case")
            phantom = AbdominalPhantom((seed, int(number)))
            for name, voxels in zip(("img", "label"), phantom.render(), strict=True):
                _save(voxels, phantom.affine, folder / "Training" / name / f"{name}{number}.nii.gz")

    request = {"data_set": "synapse", "revision": _REVISIONS["synapse"], "cases": cases}
    return write_phantom_folder(output_dir, seed, request, write)


def _choose_cases(data_set: str, numbers: tuple[int, int, int], key: Callable[[str], Any] | None = None) -> list[str]:
    """As many as asked for of each part of the split in the package, the first ones in the order of ``key``."""
    split = read_split(data_set)
    chosen = []
    for part, number in zip(SPLIT_PARTS, numbers, strict=True):
        check_number(f"num_{part}", number, 0, len(split[part]), ", the size of that part")
        chosen += (sorted(sorted(split[part]), key=key) if key else split[part])[:number]
    if not chosen:
        raise ValueError("no patient asked for; give num_train, num_val or num_test above 0")
    return sorted(chosen)


def _write_patient(folder: Path, seed: int) -> None:
    number = int(folder.name.removeprefix("patient"))
    rng = np.random.default_rng([seed, number, 3])  # the phantom's own numbers begin with 0, 1 and 2
    group = _GROUPS[(number - 1) // 20]
    phantom = CardiacPhantom((seed, number), group)
    frames = {"ED": 1, "ES": int(rng.integers(8, 14))}
    for phase, frame in frames.items():
        for ending, voxels in zip(("", "_gt"), phantom.render(phase), strict=True):
            _save(voxels, phantom.affine, folder / f"{folder.name}_frame{frame:02d}{ending}.nii.gz")
    info = {**frames, "Group": group, "Height": rng.uniform(155, 190), "NbFrame": 30, "Weight": rng.uniform(50, 100)}
    lines = [f"{key}: {value:.1f}" if isinstance(value, float) else f"{key}: {value}" for key, value in info.items()]
    (folder / "Info.cfg").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _save(voxels: np.ndarray, affine: np.ndarray, path: Path) -> None:
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
