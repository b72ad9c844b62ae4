# SPDX-License-Identifier: Apache-2.0
"""Metrics with an explicit policy for structures that are absent from truth or prediction."""

from __future__ import annotations

from .bootstrap import bootstrap_interval, case_means
from .case_dice import CaseDiceMetric
from .case_distance_scores import CaseDistanceScores
from .case_e_measure import CaseEMeasureMetric
from .case_f_measure import CaseFMeasureMetric
from .case_hausdorff_distance import CaseHausdorffDistanceMetric
from .case_iou import CaseIoUMetric
from .case_overlap_scores import CaseOverlapScores
from .case_s_measure import CaseSMeasureMetric
from .case_scores import CaseScores
from .case_surface_distance import CaseSurfaceDistanceMetric
from .pooled_dice import PooledDiceMetric
from .pooled_iou import PooledIoUMetric
from .pooled_scores import PooledScores
from .protocols import METRIC_PROTOCOLS, MetricProtocol
from .saliency_scores import SaliencyScores
from .transunet_dice import TransUNetDiceMetric
from .transunet_hausdorff_distance import TransUNetHausdorffDistanceMetric

__all__ = [
    "METRIC_PROTOCOLS",
    "CaseDiceMetric",
    "CaseDistanceScores",
    "CaseEMeasureMetric",
    "CaseFMeasureMetric",
    "CaseHausdorffDistanceMetric",
    "CaseIoUMetric",
    "CaseOverlapScores",
    "CaseSMeasureMetric",
    "CaseScores",
    "CaseSurfaceDistanceMetric",
    "MetricProtocol",
    "PooledDiceMetric",
    "PooledIoUMetric",
    "PooledScores",
    "SaliencyScores",
    "TransUNetDiceMetric",
    "TransUNetHausdorffDistanceMetric",
    "bootstrap_interval",
    "case_means",
]
