# SPDX-License-Identifier: Apache-2.0
"""Broken images are named, and results are named by their case."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import SaveImaged

from monai_sam2adapter.transforms import NameByCased, RequireFinited


class TestRequireFinited:
    @pytest.mark.parametrize("image", [np.zeros((1, 2, 2)), torch.zeros(1, 2, dtype=torch.int16)], ids=["array", "int"])
    def test_passes_finite_images_on(self, image: object) -> None:
        assert RequireFinited("image")({"image": image})["image"] is image

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_names_the_file(self, value: float) -> None:
        image = MetaTensor(torch.tensor([0.0, value, 1.0]), meta={"filename_or_obj": "a/scan.nii.gz"})
        with pytest.raises(ValueError, match=r"a/scan\.nii\.gz has 1 NaN or infinite values"):
            RequireFinited("image")({"image": image})


class TestNameByCased:
    def test_files_with_dots_do_not_overwrite_each_other(self, tmp_path: Path) -> None:
        save = SaveImaged("pred", output_dir=tmp_path, output_postfix="seg", separate_folder=False, print_log=False)
        for case in ("scan_1", "scan_2"):
            pred = MetaTensor(torch.zeros(1, 2, 2, 2), meta={"filename_or_obj": f"{case.replace('_', '.')}.nii.gz"})
            save(NameByCased("pred")({"pred": pred, "case": case}))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["scan_1_seg.nii.gz", "scan_2_seg.nii.gz"]

    def test_asks_for_a_name_and_for_metadata(self) -> None:
        with pytest.raises(ValueError, match="there is no 'case' to name results by"):
            NameByCased("pred")({"pred": MetaTensor(torch.zeros(1))})
        with pytest.raises(ValueError, match="must be a MetaTensor"):
            NameByCased("pred")({"pred": torch.zeros(1), "case": "a"})
