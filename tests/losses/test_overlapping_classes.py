# SPDX-License-Identifier: Apache-2.0
"""Dice and cross-entropy of classes that overlap: each class by itself, as if it were the only one."""

from __future__ import annotations

import math

import pytest
import torch
from monai.losses import DiceCELoss

from monai_sam2adapter.losses import IgnoreIndexDiceCELoss


def overlapping(**kwargs: object) -> IgnoreIndexDiceCELoss:
    return IgnoreIndexDiceCELoss(sigmoid=True, batch=True, **kwargs)


def batch(channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, channels, 12, 10, generator=generator)
    return logits, torch.randint(0, 2, logits.shape, generator=generator).float()


def test_it_is_the_mean_of_the_losses_of_each_class_alone() -> None:
    logits, masks = batch()
    alone = [DiceCELoss(sigmoid=True, batch=True)(logits[:, k : k + 1], masks[:, k : k + 1]) for k in range(3)]
    torch.testing.assert_close(overlapping()(logits, masks), torch.stack(alone).mean())


def test_by_hand() -> None:
    logits = torch.tensor([0.0, math.log(3.0)]).reshape(1, 2, 1, 1)  # probabilities 1/2 and 3/4
    masks = torch.ones(1, 2, 1, 1)  # both classes in one pixel
    dice = [1 - 2 * p / (p + 1) for p in (0.5, 0.75)]
    entropy = [-math.log(p) for p in (0.5, 0.75)]
    expected = sum(dice) / 2 + sum(entropy) / 2
    assert overlapping()(logits, masks).item() == pytest.approx(expected, abs=1e-4)  # MONAI smooths by 1e-5


def test_ignored_pixels_give_the_loss_of_an_image_without_them() -> None:
    logits, masks = batch()
    masks[:, :, 4:8] = 255
    logits.requires_grad_()
    loss = overlapping(ignore_index=255)(logits, masks)
    kept = [torch.cat([x[:, :, :4], x[:, :, 8:]], dim=2) for x in (logits, masks)]
    torch.testing.assert_close(loss, overlapping()(*kept))
    loss.backward()
    assert logits.grad[:, :, 4:8].abs().max() == 0
    assert (logits.grad[:, :, :4] != 0).all()


def test_pixels_of_no_class_count_beside_ignored_ones() -> None:
    logits, masks = batch()
    masks[:, :, :4] = 0
    masks[:, :, 4:8] = 255
    logits.requires_grad_()
    overlapping(ignore_index=255)(logits, masks).backward()
    assert (logits.grad[:, :, :4] != 0).all()


def test_a_batch_of_ignored_pixels_alone_is_finite() -> None:
    logits, masks = batch()
    logits.requires_grad_()
    overlapping(ignore_index=9)(logits, torch.full_like(masks, 9.0)).backward()
    assert logits.grad.abs().max() == 0


def test_weights_are_those_of_the_classes() -> None:
    logits, masks = batch()
    weight = torch.tensor([1.0, 2.0, 5.0])
    loss = overlapping(weight=weight, lambda_dice=0.0)(logits, masks)
    terms = [
        torch.nn.functional.binary_cross_entropy_with_logits(logits[:, k], masks[:, k], pos_weight=weight[k])
        for k in range(3)
    ]
    torch.testing.assert_close(loss, torch.stack(terms).mean())
