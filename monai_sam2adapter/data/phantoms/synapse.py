# SPDX-License-Identifier: Apache-2.0
"""A synthetic Synapse data set in the layout of the real one, to run everything without a download."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
from tqdm import tqdm

from ..datasets.split import SPLIT_PARTS, read_split
from .abdominal import AbdominalPhantom
from .folder import write_phantom_folder

__all__ = ["write_synapse_phantom"]

# to be raised when the drawing changes, so that old phantoms are not taken for new ones
_REVISION = 1


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
        output_dir: folder for the data set, absent or empty. Where it holds the same phantoms already, it stays as it
            is.
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
    cases = _choose_cases({"train": num_train, "val": num_val, "test": num_test})

    def write(folder: Path) -> None:
        for name in ("img", "label"):
            (folder / "Training" / name).mkdir(parents=True)
        for case in tqdm(cases, desc="Drawing phantoms", unit="patient", disable=not progress):
            _write_case(folder / "Training", case.removeprefix("case"), seed)

    return write_phantom_folder(output_dir, seed, {"data_set": "synapse", "revision": _REVISION, "cases": cases}, write)


def _choose_cases(numbers: dict[str, int]) -> list[str]:
    split = read_split("synapse")
    for part in SPLIT_PARTS:
        if not 0 <= numbers[part] <= len(split[part]):
            raise ValueError(f"num_{part} is {numbers[part]}, expected 0 to {len(split[part])}, the size of that part")
    chosen = [case for part in SPLIT_PARTS for case in split[part][: numbers[part]]]
    if not chosen:
        raise ValueError("no patient asked for; give num_train, num_val or num_test above 0")
    return sorted(chosen)


def _write_case(folder: Path, number: str, seed: int) -> None:
    phantom = AbdominalPhantom((seed, int(number)))
    image, labels = phantom.render()
    for voxels, path in ((image, f"img/img{number}.nii.gz"), (labels, f"label/label{number}.nii.gz")):
        volume = nib.Nifti1Image(voxels, phantom.affine)
        volume.header.set_xyzt_units("mm")
        nib.save(volume, folder / path)
