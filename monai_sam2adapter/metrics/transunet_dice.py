# SPDX-License-Identifier: Apache-2.0
"""Dice of each case and class as the tables of TransUNet and its successors have it."""

from __future__ import annotations

import torch
from monai.utils import MetricReduction

from .case_scores import CaseScores, as_masks, drop_background, is_present

__all__ = ["TransUNetDiceMetric"]


class TransUNetDiceMetric(CaseScores):
    """
    Dice of each case and class by TransUNet's rule, only for comparison with tables of that family.

    Both present: ``2 |P and T| / (|P| + |T|)``. Only predicted: **1**, so that a false structure is rewarded. Not
    predicted: 0, also where the truth has none. Every case counts, nothing is NaN; the mean is over cases, then over
    classes. On a set in which every case has every class it equals :py:class:`CaseDiceMetric`.

    Those tables score whole volumes at the size of the original slices.

    Source: Chen et al., "TransUNet", arXiv:2102.04306, ``calculate_metric_percase`` in ``utils.py`` of
    github.com/Beckschen/TransUNet (Apache-2.0), on which the Synapse and ACDC tables of the family rest.

    Args:
        include_background: whether channel 0 is scored. Defaults to False; a single channel is always scored.
        reduction: what :py:meth:`aggregate` returns, see :py:class:`CaseScores`: ``"mean"`` (one number, fit for a key
            metric), ``"mean_batch"`` (one per class) or ``"none"``. Defaults to ``"mean"``.
    """

    def __init__(self, include_background: bool = False, reduction: MetricReduction | str = "mean") -> None:
        super().__init__()
        self.include_background = include_background
        self.reduction = reduction

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """
        Args:
            y_pred: one-hot prediction, ``(B, C, *spatial)``.
            y: one-hot truth, of the same shape.

        Returns:
            scores from 0 to 1, ``(B, K)``, K scored classes.

        Raises:
            ValueError: when the two are no one-hot tensors of one shape.
        """
        pred, truth = (drop_background(mask, self.include_background).flatten(2) for mask in as_masks(y_pred, y))
        sizes = pred.sum(dim=2) + truth.sum(dim=2)
        dice = 2 * (pred & truth).sum(dim=2) / sizes.clamp(min=1)
        return torch.where(is_present(pred) & ~is_present(truth), 1.0, dice)
