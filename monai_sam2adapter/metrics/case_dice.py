# SPDX-License-Identifier: Apache-2.0
"""Dice of each case and class."""

from __future__ import annotations

from monai.metrics import DiceMetric

from .case_overlap_scores import CaseOverlapScores

__all__ = ["CaseDiceMetric"]


class CaseDiceMetric(CaseOverlapScores, DiceMetric):
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
