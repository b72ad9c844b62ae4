# SPDX-License-Identifier: Apache-2.0
"""Dice and HD95 by TransUNet's rule, against its published per-case function written on medpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from medpy.metric import binary

from monai_sam2adapter.metrics import CaseDiceMetric, TransUNetDiceMetric, TransUNetHausdorffDistanceMetric


def published_rule(pred: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    if pred.sum() > 0 and truth.sum() > 0:
        return binary.dc(pred, truth), binary.hd95(pred, truth)
    if pred.sum() > 0 and truth.sum() == 0:
        return 1, 0
    return 0, 0


def random_volume(n_classes: int, shape: tuple[int, ...]) -> torch.Tensor:
    """One-hot, (1, C, *spatial); smoothed, so that structures have an inside."""
    noise = torch.nn.functional.avg_pool3d(torch.rand(1, n_classes, *shape), 3, stride=1, padding=1)
    noise[:, 0] += 0.02
    return torch.nn.functional.one_hot(noise.argmax(1), n_classes).movedim(-1, 1).float()


def test_cases_with_and_without_the_structures_follow_the_published_rule() -> None:
    dice, hd95 = TransUNetDiceMetric(), TransUNetHausdorffDistanceMetric()
    expected = []
    for case, shape in enumerate([(14, 12, 9), (10, 16, 5), (9, 9, 9)]):
        truth, pred = random_volume(5, shape), random_volume(5, shape)
        truth[:, 1 + case] = 0  # each case lacks a class in truth, one in the prediction, and all lack class 4
        pred[:, 1 + (case + 1) % 3] = 0
        truth[:, 4] = pred[:, 4] = 0
        dice(y_pred=pred, y=truth)
        hd95(y_pred=pred, y=truth)
        expected.append([published_rule(pred[0, k].numpy(), truth[0, k].numpy()) for k in range(1, 5)])
    table = torch.tensor(expected, dtype=torch.float32)  # (cases, classes, 2)
    assert {0.0, 1.0} < set(table[:, :3, 0].flatten().tolist())  # all branches of the rule are taken
    torch.testing.assert_close(dice.aggregate("none"), table[..., 0])
    torch.testing.assert_close(hd95.aggregate("none"), table[..., 1])
    # mean over cases, then over classes
    torch.testing.assert_close(dice.aggregate(), table[..., 0].mean(0).mean())
    torch.testing.assert_close(hd95.aggregate(), table[..., 1].mean(0).mean())
    assert dice.n_valid().tolist() == hd95.n_valid().tolist() == [3] * 4


def test_two_dimensional_images_and_a_single_channel() -> None:
    pred, truth = torch.zeros(2, 1, 12, 9), torch.zeros(2, 1, 12, 9)
    pred[0, 0, 2:7, 1:5] = truth[0, 0, 4:11, 3:8] = 1
    pred[1, 0, 0, 0] = 1
    rule = [published_rule(p.numpy(), t.numpy()) for p, t in zip(pred[:, 0], truth[:, 0], strict=True)]
    assert TransUNetDiceMetric()(y_pred=pred, y=truth).flatten().tolist() == pytest.approx([d for d, _ in rule])
    found = TransUNetHausdorffDistanceMetric()(y_pred=pred, y=truth).flatten().tolist()
    assert found == pytest.approx([h for _, h in rule])


def test_dice_is_the_other_one_where_every_case_has_every_class() -> None:
    pred, truth = random_volume(4, (12, 12, 8)), random_volume(4, (12, 12, 8))
    torch.testing.assert_close(TransUNetDiceMetric()(y_pred=pred, y=truth), CaseDiceMetric()(y_pred=pred, y=truth))


def test_logits_are_refused() -> None:
    for metric in (TransUNetDiceMetric(), TransUNetHausdorffDistanceMetric()):
        with pytest.raises(ValueError, match="the prediction holds values other than 0 and 1"):
            metric(y_pred=torch.full((1, 2, 4, 4), 0.3), y=torch.zeros(1, 2, 4, 4))
