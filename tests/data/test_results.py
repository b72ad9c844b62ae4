# SPDX-License-Identifier: Apache-2.0
"""What earlier runs have left in the folder of results."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from monai_sam2adapter.data.results import ResultFiles


def test_files_put_aside_replace_none(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 2), np.float32), np.eye(4)), tmp_path / "p.nii.gz")
    items = [{"case": "p", "image": str(tmp_path / "p.nii.gz")}]
    contents = [b"half", b"half, too", b"and again"]
    for content in contents:
        (tmp_path / "p_seg.nii.gz").write_bytes(content)
        assert ResultFiles(tmp_path).remaining(items) == items
    aside = [tmp_path / f"p_seg.nii.gz.damaged{number}" for number in ("", "2", "3")]
    assert [path.read_bytes() for path in aside] == contents
    assert not (tmp_path / "p_seg.nii.gz").exists()
