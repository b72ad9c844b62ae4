# SPDX-License-Identifier: Apache-2.0
"""Metrics with an explicit policy for structures that are absent from truth or prediction."""

from __future__ import annotations

from .case_dice import CaseDiceMetric
from .case_hausdorff_distance import CaseHausdorffDistanceMetric
from .case_iou import CaseIoUMetric
from .case_scores import CaseScores

__all__ = ["CaseDiceMetric", "CaseHausdorffDistanceMetric", "CaseIoUMetric", "CaseScores"]
