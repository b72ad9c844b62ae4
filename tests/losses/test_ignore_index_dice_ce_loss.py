# SPDX-License-Identifier: Apache-2.0
"""Losses with pixels that do not count: no value and no gradient comes from them, the others count as before."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss

from monai_sam2adapter.losses import IgnoreIndexDiceCELoss, StructureLoss

SHAPE = (2, 24, 20)


def batch(channels: int, ignore_index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, labels and which of them do not count, rows 8 to 15."""
    generator = torch.Generator().manual_seed(channels)
    logits = torch.randn(SHAPE[0], channels, *SHAPE[1:], generator=generator)
    labels = torch.randint(0, max(2, channels), (SHAPE[0], 1, *SHAPE[1:]), generator=generator)
    ignored = torch.zeros_like(labels, dtype=torch.bool)
    ignored[:, :, 8:16] = True
    return logits, labels.masked_fill(ignored, ignore_index), ignored


def without(ignored: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x[:, :, :8], x[:, :, 16:]], dim=2)


def dice_ce(channels: int, ignore_index: int | None) -> torch.nn.Module:
    return IgnoreIndexDiceCELoss(
        ignore_index, to_onehot_y=channels > 1, softmax=channels > 1, sigmoid=channels == 1, batch=True
    )


@pytest.mark.parametrize("ignore_index", [5, 255])
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_dice_and_cross_entropy_are_those_of_an_image_without_these_pixels(channels, ignore_index) -> None:
    logits, labels, ignored = batch(channels, ignore_index)
    plain = DiceCELoss(to_onehot_y=channels > 1, softmax=channels > 1, sigmoid=channels == 1, batch=True)
    expected = plain(without(ignored, logits), without(ignored, labels))
    torch.testing.assert_close(dice_ce(channels, ignore_index)(logits, labels), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "channels"),
    [
        *((dice_ce(channels, 255), channels) for channels in (1, 3)),
        *((StructureLoss(bce, ignore_index=255), 1) for bce in ("intended", "published")),
    ],
)
def test_what_is_predicted_there_does_not_matter(loss, channels) -> None:
    logits, labels, ignored = batch(channels, 255)
    logits.requires_grad_()
    value = loss(logits, labels)
    value.backward()
    assert logits.grad[ignored.expand_as(logits)].abs().max() == 0
    assert (logits.grad[~ignored.expand_as(logits)] != 0).all()
    other = torch.where(ignored, -logits.detach() + 3, logits.detach())
    torch.testing.assert_close(loss(other, labels), value.detach())


@pytest.mark.parametrize("channels", [1, 3])
def test_without_such_pixels_it_is_the_loss_of_monai(channels) -> None:
    logits, labels, _ = batch(channels, 0)
    plain = DiceCELoss(to_onehot_y=channels > 1, softmax=channels > 1, sigmoid=channels == 1, batch=True)
    assert torch.equal(dice_ce(channels, None)(logits, labels), plain(logits, labels))
    torch.testing.assert_close(dice_ce(channels, 255)(logits, labels), plain(logits, labels))


@pytest.mark.parametrize("bce", ["intended", "published"])
def test_structure_loss_equals_that_of_the_counted_half(bce) -> None:
    # the border of the ignored half is farther from the structure than the window reaches
    logits = torch.randn(2, 1, 128, 64, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros_like(logits)
    mask[:, :, 10:30, 20:40] = 1
    expected = StructureLoss(bce)(logits[:, :, :64], mask[:, :, :64])
    mask[:, :, 64:] = 128
    torch.testing.assert_close(StructureLoss(bce, ignore_index=128)(logits, mask), expected)


@pytest.mark.parametrize("loss", [dice_ce(1, 255), dice_ce(3, 255), StructureLoss(ignore_index=255)])
def test_a_batch_of_nothing_else_has_a_finite_loss_without_gradient(loss) -> None:
    channels = 3 if getattr(getattr(loss, "dice", None), "softmax", False) else 1
    logits = torch.randn(1, channels, 8, 8, requires_grad=True)
    value = loss(logits, torch.full((1, 1, 8, 8), 255))
    value.backward()
    assert value.isfinite()
    assert logits.grad.abs().max() < 1e-6


def test_smoothing_is_refused() -> None:
    with pytest.raises(ValueError, match="ignore_index does not go with label_smoothing"):
        IgnoreIndexDiceCELoss(255, label_smoothing=0.1)


@pytest.mark.parametrize("n_channels", [1, 3])
def test_class_weights_beside_ignored_pixels_are_those_of_monai_without_them(n_channels: int) -> None:
    """What is left of the images when the ignored pixels are cut off is what MONAI's own loss is given."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, n_channels, 6, 8, generator=generator)
    labels = torch.randint(max(2, n_channels), (2, 1, 6, 8), generator=generator)
    labels[..., 5:] = 255
    weight = torch.tensor([0.1, 1.0, 3.0][:n_channels]) if n_channels > 1 else torch.tensor([3.0])
    arguments = {"to_onehot_y": n_channels > 1, "softmax": n_channels > 1, "sigmoid": n_channels == 1, "batch": True}
    expected = DiceCELoss(weight=weight, **arguments)(logits[..., :5], labels[..., :5])
    torch.testing.assert_close(IgnoreIndexDiceCELoss(255, weight=weight, **arguments)(logits, labels), expected)
    nothing = IgnoreIndexDiceCELoss(255, weight=weight, lambda_dice=0.0, **arguments)(logits, labels.fill_(255))
    assert nothing == 0
