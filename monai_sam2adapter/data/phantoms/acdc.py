# SPDX-License-Identifier: Apache-2.0
"""A synthetic ACDC in the layout of the real one, to run everything without a download."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
from tqdm import tqdm

from ..datasets.split import SPLIT_PARTS, read_split
from .cardiac import CardiacPhantom
from .folder import write_phantom_folder

__all__ = ["write_acdc_phantom"]

# to be raised when the drawing changes, so that old phantoms are not taken for new ones
_REVISION = 1
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
        output_dir: folder for the data set, absent or empty. Where it holds the same phantoms already, it stays as it
            is.
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
    patients = _choose_patients({"train": num_train, "val": num_val, "test": num_test})

    def write(folder: Path) -> None:
        training = folder / "training"
        training.mkdir()
        for patient in tqdm(patients, desc="Drawing phantoms", unit="patient", disable=not progress):
            _write_patient(training / patient, seed)

    return write_phantom_folder(
        output_dir, seed, {"data_set": "acdc", "revision": _REVISION, "patients": patients}, write
    )


def _choose_patients(numbers: dict[str, int]) -> list[str]:
    """Patients of each part of the split in the package, one from each pathology in turn."""
    split = read_split("acdc")
    chosen = []
    for part in SPLIT_PARTS:
        if not 0 <= numbers[part] <= len(split[part]):
            raise ValueError(f"num_{part} is {numbers[part]}, expected 0 to {len(split[part])}, the size of that part")
        chosen += sorted(split[part], key=lambda patient: (_place_in_block(patient), patient))[: numbers[part]]
    if not chosen:
        raise ValueError("no patient asked for; give num_train, num_val or num_test above 0")
    return sorted(chosen)


def _write_patient(folder: Path, seed: int) -> None:
    number = int(folder.name.removeprefix("patient"))
    rng = np.random.default_rng([seed, number, 3])  # the phantom's own numbers begin with 0, 1 and 2
    group = _GROUPS[(number - 1) // 20]
    phantom = CardiacPhantom((seed, number), group)
    frames = {"ED": 1, "ES": int(rng.integers(8, 14))}
    folder.mkdir()
    for phase, frame in frames.items():
        image, label = phantom.render(phase)
        _save(image, phantom.affine, folder / f"{folder.name}_frame{frame:02d}.nii.gz")
        _save(label, phantom.affine, folder / f"{folder.name}_frame{frame:02d}_gt.nii.gz")
    info = {**frames, "Group": group, "Height": rng.uniform(155, 190), "NbFrame": 30, "Weight": rng.uniform(50, 100)}
    lines = [f"{key}: {value:.1f}" if isinstance(value, float) else f"{key}: {value}" for key, value in info.items()]
    (folder / "Info.cfg").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _save(voxels: np.ndarray, affine: np.ndarray, path: Path) -> None:
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def _place_in_block(patient: str) -> int:
    return (int(patient.removeprefix("patient")) - 1) % 20
