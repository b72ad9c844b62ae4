# SPDX-License-Identifier: Apache-2.0
"""Dice of each case and class."""

from __future__ import annotations

import torch
from monai.metrics import DiceMetric
from monai.utils import MetricReduction

from .case_scores import CaseScores, as_masks, drop_background, is_present

__all__ = ["CaseDiceMetric"]


class CaseDiceMetric(CaseScores, DiceMetric):
    """
    Dice of each case and class, ``2 |P and T| / (|P| + |T|)``, with a fixed policy for absent structures.

    In neither prediction nor truth: NaN, counts in no mean. In only one of the two: 0. ``monai.metrics.DiceMetric``
    drops a case whose truth is empty even when the prediction is not, which hides false positives.

    Args:
        include_background: whether channel 0 is scored. Defaults to False; a single channel is always scored.
        reduction: what :py:meth:`aggregate` returns, see :py:class:`CaseScores`: ``"mean"`` (one number, fit for a key
            metric), ``"mean_batch"`` (one per class) or ``"none"``. Defaults to ``"mean"``.

    Example:
        >>> import torch
        >>> from monai_sam2adapter.metrics import CaseDiceMetric
        >>> metric = CaseDiceMetric()
        >>> truth = torch.tensor([[[0.0, 0.0, 1.0, 1.0]], [[1.0, 1.0, 0.0, 0.0]]]).reshape(1, 2, 4)
        >>> metric(y_pred=truth.flip(2), y=truth)
        tensor([[0.]])
    """

    def __init__(self, include_background: bool = False, reduction: MetricReduction | str = "mean") -> None:
        # with ignore_empty=False an absent structure scores 0 where predicted, and 1 (made NaN below) where not
        super().__init__(include_background=include_background, reduction=reduction, ignore_empty=False)

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """
        Args:
            y_pred: one-hot prediction, ``(B, C, *spatial)``.
            y: one-hot truth, of the same shape.

        Returns:
            scores from 0 to 1 or NaN, ``(B, K)``, K scored classes.

        Raises:
            ValueError: when the two are no one-hot tensors of one shape.
        """
        pred, truth = as_masks(y_pred, y)
        scores = super()._compute_tensor(pred, truth)
        present = is_present(drop_background(pred | truth, self.include_background))
        return scores.masked_fill(~present, float("nan"))
