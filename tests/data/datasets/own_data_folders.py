# SPDX-License-Identifier: Apache-2.0
"""Small folders in the layouts of anyone's data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

V1 = {"0": "background", "1": "liver"}
V2 = {"background": 0, "liver": 1}
CASES = [f"case_{number:03d}" for number in range(7)]


def write_volume(path: Path, seed: int, is_label: bool = False, shape: Sequence[int] = (6, 5, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).normal(size=shape)
    array = (values > 0).astype(np.uint8) if is_label else values.astype(np.float32)
    nib.save(nib.Nifti1Image(array, np.diag([1, 1, 3, 1])), path)


def write_nnunet(root: Path, channels: int = 1, cases: Sequence[str] = CASES, **content: Any) -> Path:
    """A folder of nnU-Net v2."""
    for seed, case in enumerate(cases):
        for channel in range(channels):
            write_volume(root / f"imagesTr/{case}_{channel:04d}.nii.gz", 10 * seed + channel)
        write_volume(root / f"labelsTr/{case}.nii.gz", seed, is_label=True)
    names = {str(channel): f"MR{channel}" for channel in range(channels)}
    write_json(root, {"channel_names": names, "labels": V2, "file_ending": ".nii.gz", **content})
    return root


def write_msd(root: Path, suffix: str = "", **content: Any) -> Path:
    """A folder of the Medical Segmentation Decathlon, or of nnU-Net v1 with the suffix ``_0000``."""
    for seed, case in enumerate(CASES):
        write_volume(root / f"imagesTr/{case}{suffix}.nii.gz", seed)
        write_volume(root / f"labelsTr/{case}.nii.gz", seed, is_label=True)
    listed = [{"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"} for case in CASES]
    write_json(root, {"modality": {"0": "CT"}, "labels": V1, "numTraining": 7, "training": listed, **content})
    return root


def write_json(root: Path, content: Mapping[str, Any], name: str = "dataset.json") -> Path:
    (root / name).write_text(json.dumps(content), encoding="utf-8")
    return root / name


def change_json(root: Path, **changes: Any) -> None:
    write_json(root, {**json.loads((root / "dataset.json").read_text(encoding="utf-8")), **changes})


def write_folders(root: Path, masks: str = "masks", values: Sequence[int] = (0, 255), colored: bool = False) -> Path:
    rng = np.random.default_rng(0)
    for name in ("images", masks):
        (root / name).mkdir(parents=True)
    for case in CASES:
        shape = (8, 6, 3) if colored else (8, 6)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(root / f"images/{case}.png")
        Image.fromarray(rng.choice(np.array(values, np.uint8), (8, 6))).save(root / masks / f"{case}.png")
    return root
