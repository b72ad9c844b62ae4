# SPDX-License-Identifier: Apache-2.0
"""Masks with anything but the classes are named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_sam2adapter.transforms import RequireLabelsd


class TestRequireLabelsd:
    @pytest.mark.parametrize(
        "label",
        [np.array([[0, 1, 2]], dtype=np.uint8), torch.tensor([2.0, 0.0]), torch.zeros(1, 2, dtype=torch.int16)],
        ids=["array", "float", "one-class"],
    )
    def test_passes_classes_on(self, label: object) -> None:
        assert RequireLabelsd("label", 3)({"label": label})["label"] is label

    @pytest.mark.parametrize(
        ("values", "text"),
        [
            ([0, 3, 3], "holds the values 3 in 2 places; expected integers from 0 to 2"),
            ([0.0, 0.5], "holds the values 0.5 in 1 places"),
            ([-1, 0], "holds the values -1 in 1 places"),
            ([0.0, float("nan")], "holds the values nan in 1 places"),
            (list(range(9)), r"holds the values 3, 4, 5, 6, 7, \.\.\. in 6 places"),
        ],
    )
    def test_names_the_file_and_the_values(self, values: list[float], text: str) -> None:
        label = MetaTensor(torch.tensor(values), meta={"filename_or_obj": "a/mask.png"})
        with pytest.raises(ValueError, match=rf"a/mask\.png {text}"):
            RequireLabelsd("label", 3)({"label": label})

    def test_names_the_key_without_a_file_and_asks_for_a_class(self) -> None:
        with pytest.raises(ValueError, match="the item 'label' holds the values 1"):
            RequireLabelsd("label", 1)({"label": torch.ones(2)})
        with pytest.raises(ValueError, match="num_classes is 0, expected at least 1"):
            RequireLabelsd("label", 0)
