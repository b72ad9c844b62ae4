# SPDX-License-Identifier: Apache-2.0
"""Intersection over union of each case and class."""

from __future__ import annotations

from monai.metrics import MeanIoU

from .case_overlap_scores import CaseOverlapScores

__all__ = ["CaseIoUMetric"]


class CaseIoUMetric(CaseOverlapScores, MeanIoU):
    """
    Intersection over union of each case and class, ``|P and T| / |P or T|``, with a fixed policy for absent structures.

    In neither prediction nor truth: NaN, counts in no mean. In only one of the two: 0.

    Args:
        include_background: whether channel 0 is scored. Defaults to False; a single channel is always scored.
        reduction: what :py:meth:`aggregate` returns, see :py:class:`CaseScores`: ``"mean"`` (one number, fit for a key
            metric), ``"mean_batch"`` (one per class) or ``"none"``. Defaults to ``"mean"``.
    """
