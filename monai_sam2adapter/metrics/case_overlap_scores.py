# SPDX-License-Identifier: Apache-2.0
"""What Dice and IoU of each case share: their policy for absent structures."""

from __future__ import annotations

import torch
from monai.utils import MetricReduction

from .case_scores import CaseScores, as_masks, drop_background, is_present

__all__ = ["CaseOverlapScores"]


class CaseOverlapScores(CaseScores):
    """
    Mix-in that stands before one of MONAI's overlap metrics and gives it a fixed policy for absent structures.

    In neither prediction nor truth: NaN, counts in no mean. In only one of the two: 0.

    Args:
        include_background: whether channel 0 is scored. Defaults to False; a single channel is always scored.
        reduction: what :py:meth:`aggregate` returns, see :py:class:`CaseScores`: ``"mean"`` (one number, fit for a key
            metric), ``"mean_batch"`` (one per class) or ``"none"``. Defaults to ``"mean"``.
    """

    include_background: bool

    def __init__(self, include_background: bool = False, reduction: MetricReduction | str = "mean") -> None:
        # with ignore_empty=False an absent structure scores 0 where predicted, and 1 (made NaN below) where not
        super().__init__(  # type: ignore[call-arg]
            include_background=include_background, reduction=reduction, ignore_empty=False
        )

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
        scores: torch.Tensor = super()._compute_tensor(pred, truth)  # type: ignore[assignment, safe-super]
        present = is_present(drop_background(pred | truth, self.include_background))
        return scores.masked_fill(~present, float("nan"))
