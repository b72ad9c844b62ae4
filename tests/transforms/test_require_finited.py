# SPDX-License-Identifier: Apache-2.0
"""Broken images are named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

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
