# SPDX-License-Identifier: Apache-2.0
"""Broken images are named."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged

from monai_sam2adapter.transforms import RequireFinited


class TestRequireFinited:
    @pytest.mark.parametrize("image", [np.zeros((1, 2, 2)), torch.zeros(1, 2, dtype=torch.int16)], ids=["array", "int"])
    def test_passes_finite_images_on(self, image: object) -> None:
        assert RequireFinited("image")({"image": image})["image"] is image

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_names_the_file(self, value: float) -> None:
        image = MetaTensor(torch.tensor([0.0, value, 1.0]), meta={"filename_or_obj": "a/scan.nii.gz"})
        with pytest.raises(ValueError, match=r"a/scan\.nii\.gz has 1 NaN or infinite values"):
            RequireFinited("image")({"image": image})

    def test_names_the_file_of_an_empty_array(self) -> None:
        image = MetaTensor(torch.zeros(1, 4, 4, 0), meta={"filename_or_obj": "a/scan.nii.gz"})
        with pytest.raises(ValueError, match=r"a/scan\.nii\.gz has no values: its shape is \(1, 4, 4, 0\)"):
            RequireFinited("image")({"image": image})

    def test_names_the_file_of_a_volume_without_slices(self, tmp_path: Path) -> None:
        path = str(tmp_path / "scan.nii.gz")
        nib.save(nib.Nifti1Image(np.zeros((4, 4, 0), dtype=np.int16), np.eye(4)), path)
        load = Compose([LoadImaged("image", ensure_channel_first=True), RequireFinited("image")])
        with pytest.raises(RuntimeError) as error:
            load({"image": path})
        assert f"{path} has no values" in str(error.value.__cause__)
