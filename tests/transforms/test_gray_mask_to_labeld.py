# SPDX-License-Identifier: Apache-2.0
"""Black and white becomes two classes, or the file is named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_sam2adapter.transforms import GrayMaskToLabeld


class TestGrayMaskToLabeld:
    @pytest.mark.parametrize("kind", [np.array, torch.tensor, MetaTensor], ids=["array", "tensor", "meta"])
    def test_cuts_at_the_threshold_and_keeps_type_and_metadata(self, kind: type) -> None:
        mask = kind([[0.0, 20.0, 230.0, 255.0]])
        label = GrayMaskToLabeld("label")({"label": mask})["label"]
        assert type(label) is type(mask)
        assert label.dtype == mask.dtype
        assert label.tolist() == [[0, 0, 1, 1]]
        assert GrayMaskToLabeld("label", 150, bright_class=0)({"label": mask})["label"].tolist() == [[1, 1, 0, 0]]
        assert mask.tolist() == [[0, 20, 230, 255]]

    def test_the_threshold_itself_is_white(self) -> None:
        mask = MetaTensor(torch.tensor([0.0] * 199 + [150.0, 255.0]), meta={"filename_or_obj": "mask.jpg"})
        assert GrayMaskToLabeld("label", 150)({"label": mask})["label"].sum() == 2
        assert GrayMaskToLabeld("label", 151)({"label": mask})["label"].sum() == 1

    def test_soft_masks_are_cut_where_they_are_asked_for(self) -> None:
        mask = MetaTensor(torch.tensor([0.0, 127.0, 128.0, 255.0]), meta={"filename_or_obj": "mask.png"})
        with pytest.raises(ValueError, match=r"mask\.png has other gray values in 50 % of its pixels \(127, 128\)"):
            GrayMaskToLabeld("label")({"label": mask})
        assert GrayMaskToLabeld("label", soft=True)({"label": mask})["label"].tolist() == [0, 0, 1, 1]
        with pytest.raises(ValueError, match="has no value above 1"):
            GrayMaskToLabeld("label", soft=True)({"label": mask.clamp(max=1)})

    @pytest.mark.parametrize(
        ("file", "values", "labels"),
        [
            ("a.png", [0, 128, 255], [0, 128, 1]),
            ("a.png", [128, 128, 128], [128, 128, 128]),
            ("a.jpg", [3, 126, 131], [0, 128, 128]),
            ("a.jpg", [130, 248, 255], [128, 1, 1]),
        ],
    )
    def test_pixels_that_do_not_count_keep_their_value(self, file: str, values: list, labels: list) -> None:
        mask = MetaTensor(torch.tensor(values), meta={"filename_or_obj": file})
        assert GrayMaskToLabeld("label", ignore_label=128)({"label": mask})["label"].tolist() == labels

    def test_what_is_near_them_is_an_error_in_a_lossless_file(self) -> None:
        mask = MetaTensor(torch.tensor([0, 127, 128, 255]), meta={"filename_or_obj": "a.png"})
        with pytest.raises(ValueError, match=r"has other gray values in 33 % of its pixels \(127\)"):
            GrayMaskToLabeld("label", ignore_label=128)({"label": mask})

    def test_names_the_file_of_a_mask_of_0_and_1(self) -> None:
        mask = MetaTensor(torch.tensor([0, 1]), meta={"filename_or_obj": "a/mask.png"})
        with pytest.raises(ValueError, match=r"a/mask\.png has no value above 1; expected 0 .* Repair the file"):
            GrayMaskToLabeld("label")({"label": mask})

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"threshold": 0}, "threshold is 0"),
            ({"bright_class": 2}, "bright_class is 2"),
            ({"ignore_label": 255}, "ignore_label is 255, expected an integer from 2 to 254"),
        ],
    )
    def test_wrong_options_are_errors(self, kwargs: dict[str, int], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            GrayMaskToLabeld("label", **kwargs)
