# SPDX-License-Identifier: Apache-2.0
"""Dice and cross-entropy over the pixels that are labelled."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss

__all__ = ["IgnoreIndexDiceCELoss"]


class IgnoreIndexDiceCELoss(DiceCELoss):
    """
    ``monai.losses.DiceCELoss`` that leaves out the pixels of one label, as ``DiceLoss`` and others of MONAI do by their
    ``ignore_index``.

    Without such a pixel, or with None, the loss is MONAI's. A batch without any other pixel costs 0 in cross-entropy.

    Of classes that overlap, ``sigmoid=True`` with a mask a channel, each has a binary cross-entropy of its own, and the
    mean is over all channels; MONAI's ``DiceCELoss`` takes a softmax over them in that term. A pixel that a mask marks
    by ``ignore_index`` is left out of this class.

    Args:
        ignore_index: label of the pixels that do not count, no number of a class. Defaults to None: all count.
        kwargs: those of ``DiceCELoss``; labels are class numbers: ``to_onehot_y`` is True unless there is one channel.
            With ``weight`` the cross-entropy is divided by the weights of the pixels that count, as PyTorch's; of
            classes that overlap it is a ``pos_weight`` for each.

    Raises:
        ValueError: when ``label_smoothing`` is given, too: what it means beside ignored pixels is not settled.

    Example:
        >>> import torch
        >>> from monai_sam2adapter.losses import IgnoreIndexDiceCELoss
        >>> loss = IgnoreIndexDiceCELoss(ignore_index=255, to_onehot_y=True, softmax=True)
        >>> logits, labels = torch.zeros(1, 2, 2, 2), torch.tensor([[[[0, 1], [255, 255]]]])
        >>> loss(logits, labels)  # 0.5 + log 2
        tensor(1.1931)
    """

    def __init__(self, ignore_index: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ignore_index = ignore_index
        if ignore_index is not None and kwargs.get("label_smoothing"):
            raise ValueError("ignore_index does not go with label_smoothing; leave one of them out.")
        self._of_masks = self.dice.sigmoid and not self.dice.to_onehot_y
        # MONAI takes pixels without any class for those to ignore
        self.dice.ignore_index = None if self._of_masks else ignore_index

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """
        Args:
            input: logits, ``(B, C, *spatial)``.
            target: class numbers, ``(B, 1, *spatial)``; of classes that overlap masks, ``(B, C, *spatial)``.

        Returns:
            the loss, a scalar.
        """
        if not self._of_masks:
            return super().forward(input, target)
        counts = torch.ones_like(target, dtype=torch.bool) if self.ignore_index is None else target != self.ignore_index
        # without probability and without truth a pixel adds nothing to Dice, nor does it get a gradient
        dice = self.dice(input.masked_fill(~counts, -torch.inf), target * counts)
        return self.lambda_dice * dice + self.lambda_ce * self.bce(input, target)

    def ce(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """
        Args:
            input: logits, ``(B, C, *spatial)``.
            target: class numbers, ``(B, 1, *spatial)``.

        Returns:
            cross-entropy, averaged over the pixels that count.
        """
        if self.ignore_index is None:
            return super().ce(input, target)
        labels, weight = target[:, 0].long(), self.cross_entropy.weight
        total = F.cross_entropy(input, labels, weight, ignore_index=self.ignore_index, reduction="sum")
        counts = labels != self.ignore_index
        if weight is None:
            return total / counts.sum().clamp(min=1)
        size = (weight[labels.where(counts, 0)] * counts).sum()
        return total / size.where(size > 0, 1)

    def bce(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """
        Args:
            input: logits, ``(B, C, *spatial)``.
            target: 0 and 1, of the same shape.

        Returns:
            cross-entropy, averaged over the pixels that count.
        """
        weight = self.binary_cross_entropy.pos_weight
        if self.ignore_index is None and (weight is None or input.shape[1] == 1):
            return super().bce(input, target)
        counts = torch.ones_like(input) if self.ignore_index is None else (target != self.ignore_index).to(input.dtype)
        labels = target.to(input.dtype) * counts
        if weight is not None:
            weight = weight.reshape(-1, *[1] * (input.ndim - 2))
        loss = F.binary_cross_entropy_with_logits(input, labels, reduction="none", pos_weight=weight)
        return (loss * counts).sum() / counts.sum().clamp(min=1)
