# SPDX-License-Identifier: Apache-2.0
"""The structure loss against numbers computed by hand and by loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.losses import DeepSupervisionLoss

from monai_sam2adapter.losses import StructureLoss

ONE_PIXEL = torch.tensor([[1.0, 0.0], [0.0, 0.0]])[None, None]


def looped(logits, mask, published=False):
    """The definition, image by image and pixel by pixel."""
    crosses, ious = [], []
    for image, truth in zip(logits.double().numpy()[:, 0], mask.double().numpy()[:, 0], strict=True):
        padded = np.pad(truth, 15)
        overlap = total = cross = weights = 0.0
        for y in range(truth.shape[0]):
            for x in range(truth.shape[1]):
                m, p = truth[y, x], 1 / (1 + np.exp(-image[y, x]))
                w = 1 + 5 * abs(padded[y : y + 31, x : x + 31].mean() - m)
                bce = -(m * np.log(p) + (1 - m) * np.log(1 - p))
                cross += bce if published else w * bce
                weights += 1 if published else w
                overlap += w * p * m
                total += w * (p + m)
        crosses.append(cross / weights)
        ious.append(1 - (overlap + 1) / (total - overlap + 1))
    return np.mean(crosses) + np.mean(ious)


class TestValues:
    def test_by_hand(self):
        # The window of every pixel holds all 4: its mean is 1 / 961, zeros outside of the image counted.
        on, off = 1 + 5 * 960 / 961, 1 + 5 / 961
        p = 0.75
        logits = torch.full((1, 1, 2, 2), math.log(3))
        cross = (on * -math.log(p) + 3 * off * -math.log(1 - p)) / (on + 3 * off)
        iou = (on * p + 1) / (on + 3 * off * p + 1)
        assert StructureLoss()(logits, ONE_PIXEL).item() == pytest.approx(cross + 1 - iou, rel=1e-5)
        mean = (-math.log(p) - 3 * math.log(1 - p)) / 4
        assert StructureLoss("published")(logits, ONE_PIXEL).item() == pytest.approx(mean + 1 - iou, rel=1e-5)

    @pytest.mark.parametrize("bce", ["intended", "published"])
    def test_by_loops(self, bce):
        logits, mask = torch.randn(2, 1, 37, 20), torch.zeros(2, 1, 37, 20)
        mask[0, 0, 5:20, 3:12] = 1
        mask[1, 0, 30:, :] = 1
        expected = looped(logits, mask, published=bce == "published")
        assert StructureLoss(bce)(logits, mask).item() == pytest.approx(expected, rel=1e-5)

    def test_the_two_forms_differ(self):
        logits = torch.full((1, 1, 2, 2), math.log(3))
        assert StructureLoss()(logits, ONE_PIXEL) < StructureLoss("published")(logits, ONE_PIXEL) - 0.1

    def test_right_logits_cost_nothing(self):
        mask = (torch.rand(2, 3, 40, 40) > 0.5).float()
        assert StructureLoss()(100 * (2 * mask - 1), mask) < 1e-5

    def test_channels_count_alike(self):
        logits, mask = torch.randn(2, 3, 40, 40), (torch.rand(2, 3, 40, 40) > 0.5).float()
        each = [StructureLoss()(logits[:, [k]], mask[:, [k]]) for k in range(3)]
        assert torch.allclose(StructureLoss()(logits, mask), torch.stack(each).mean())

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_half_precision_does_not_overflow(self, dtype):
        logits, mask = torch.randn(1, 1, 300, 300), torch.ones(1, 1, 300, 300, dtype=torch.uint8)
        expected = StructureLoss()(logits, mask)
        assert StructureLoss()(logits.to(dtype), mask).item() == pytest.approx(expected.item(), rel=1e-2)

    def test_gradient_is_finite(self):
        logits = (1e4 * torch.randn(1, 1, 40, 40)).requires_grad_()
        StructureLoss()(logits, torch.zeros(1, 1, 40, 40)).backward()
        assert logits.grad.isfinite().all()
        assert logits.grad.any()


def test_deep_supervision_is_the_sum():
    logits, mask = [torch.randn(2, 1, 32, 32) for _ in range(3)], (torch.rand(2, 1, 32, 32) > 0.5).float()
    loss = StructureLoss()
    total = DeepSupervisionLoss(loss, weight_mode="same")
    assert torch.allclose(total(logits, mask), sum(loss(each, mask) for each in logits))
    assert torch.allclose(total(logits[0], mask), loss(logits[0], mask))


class TestErrors:
    def test_unknown_form(self):
        with pytest.raises(ValueError, match="did you mean 'published'"):
            StructureLoss("publishd")

    @pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 8, 8), (2, 3, 8, 8, 8)], ids=str)
    def test_labels_of_several_classes_are_named(self, shape):
        with pytest.raises(ValueError, match="give labels of several classes as one channel per class"):
            StructureLoss()(torch.zeros(2, 3, 8, 8), torch.zeros(shape))
