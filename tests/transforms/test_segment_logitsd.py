# SPDX-License-Identifier: Apache-2.0
"""Classes, probabilities and uncertainty from logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.special import expit, softmax
from scipy.stats import entropy

from monai_sam2adapter.transforms import SegmentLogitsd


def test_classes_probabilities_and_entropy_of_several_channels() -> None:
    logits = MetaTensor(torch.randn(4, 5, 6, 19), affine=torch.diag(torch.tensor([2.0, 3, 4, 1])))
    items = SegmentLogitsd("pred", probabilities=True, uncertainty=True)({"pred": logits, "case": "a"})
    expected = softmax(logits.numpy().astype(np.float64), axis=0)
    np.testing.assert_array_equal(items["pred"], expected.argmax(0)[None])
    np.testing.assert_allclose(items["probabilities"], expected, atol=1e-6)
    np.testing.assert_allclose(items["uncertainty"], entropy(expected, base=4, axis=0)[None], atol=1e-6)
    assert items["pred"].dtype == torch.uint8
    assert items["probabilities"].dtype == items["uncertainty"].dtype == torch.float32
    for key in ("pred", "probabilities", "uncertainty"):
        torch.testing.assert_close(items[key].affine, logits.affine)


def test_a_single_channel_is_the_foreground() -> None:
    logits = MetaTensor(torch.tensor([[[-2.0, -0.1, 0.0, 3.0]]]))
    items = SegmentLogitsd("pred", probabilities=True, uncertainty=True)({"pred": logits})
    chance = expit([-2.0, -0.1, 0.0, 3.0])
    assert items["pred"].tolist() == [[[0, 0, 1, 1]]]
    np.testing.assert_allclose(items["probabilities"][0, 0], chance, atol=1e-6)
    np.testing.assert_allclose(items["uncertainty"][0, 0], entropy([chance, 1 - chance], base=2), atol=1e-6)


def test_classes_that_overlap_are_a_sigmoid_each() -> None:
    logits = MetaTensor(torch.tensor([[[3.0, 3.0, -1.0, 0.0]], [[2.0, -2.0, -1.0, -4.0]]]))
    items = SegmentLogitsd("pred", probabilities=True, uncertainty=True, overlapping=True)({"pred": logits})
    # both, one, none; and at a probability of 0.5, as in nnU-Net, none
    assert items["pred"].tolist() == [[[1, 1, 0, 0]], [[1, 0, 0, 0]]]
    assert items["pred"].dtype == torch.uint8
    chance = expit(logits.numpy().astype(np.float64))
    np.testing.assert_allclose(items["probabilities"], chance, atol=1e-6)
    each = entropy(np.stack([chance, 1 - chance]), base=2, axis=0)
    np.testing.assert_allclose(items["uncertainty"], each.mean(axis=0)[None], atol=1e-6)


def test_uncertainty_runs_from_sure_to_unsure() -> None:
    logits = MetaTensor(torch.tensor([[[1000.0, 5.0]], [[-1000.0, 5.0]], [[-1000.0, 5.0]]]))
    uncertainty = SegmentLogitsd("pred", uncertainty=True)({"pred": logits})["uncertainty"]
    np.testing.assert_allclose(uncertainty, [[[0, 1]]], atol=1e-6)


def test_maps_are_made_on_demand_only() -> None:
    assert SegmentLogitsd("pred")({"pred": MetaTensor(torch.randn(2, 3, 3))}).keys() == {"pred"}
    with pytest.raises(ValueError, match="one key at a time"):
        SegmentLogitsd(("a", "b"), uncertainty=True)


def test_of_equal_logits_the_first_class_wins() -> None:
    logits = torch.tensor([0.0, 2.0, 2.0, 1.0, 2.0]).expand(3, 4, 5).permute(2, 0, 1)
    assert (SegmentLogitsd("pred")({"pred": logits})["pred"] == 1).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_broken_logits_are_no_class(value: float) -> None:
    logits = torch.zeros(3, 4, 4)
    logits[2, 1, 1] = value
    with pytest.raises(ValueError, match=r"NaN or infinite values; try full precision \(--amp False\)"):
        SegmentLogitsd("pred")({"pred": logits})


@pytest.mark.parametrize(("number", "dtype"), [(256, torch.uint8), (257, torch.int16)])
def test_more_classes_than_8_bits_hold_take_16(number: int, dtype: torch.dtype) -> None:
    logits = torch.zeros(number, 1, 1)
    logits[-1] = 1
    found = SegmentLogitsd("pred")({"pred": logits})["pred"]
    assert found.dtype == dtype
    assert found.item() == number - 1
