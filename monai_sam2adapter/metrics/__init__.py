# SPDX-License-Identifier: Apache-2.0
"""Metrics with an explicit policy for structures that are absent from truth or prediction."""

from __future__ import annotations

from .bootstrap import bootstrap_interval, case_means
from .calibration import CaseCalibrationErrorMetric
from .case_scores import (
    CaseDiceMetric,
    CaseDistanceScores,
    CaseHausdorffDistanceMetric,
    CaseIoUMetric,
    CaseMetric,
    CaseScores,
    CaseSurfaceDistanceMetric,
)
from .fine_structures import CaseCenterlineDiceMetric, CaseComponentDiceMetric, CaseSurfaceDiceMetric
from .pooled import PooledDiceMetric, PooledIoUMetric, PooledScores
from .protocols import METRIC_PROTOCOLS, MetricProtocol, create_metrics, need_probabilities
from .saliency import (
    CaseEMeasureMetric,
    CaseFMeasureMetric,
    CaseMAEMetric,
    CaseSMeasureMetric,
    SaliencyScores,
    ScoredMap,
)
from .scored_case import ScoredCase
from .transunet import TransUNetDiceMetric, TransUNetHausdorffDistanceMetric
from .volumes import CaseVolumeMetric

__all__ = [
    "METRIC_PROTOCOLS",
    "CaseCalibrationErrorMetric",
    "CaseCenterlineDiceMetric",
    "CaseComponentDiceMetric",
    "CaseDiceMetric",
    "CaseDistanceScores",
    "CaseEMeasureMetric",
    "CaseFMeasureMetric",
    "CaseHausdorffDistanceMetric",
    "CaseIoUMetric",
    "CaseMAEMetric",
    "CaseMetric",
    "CaseSMeasureMetric",
    "CaseScores",
    "CaseSurfaceDiceMetric",
    "CaseSurfaceDistanceMetric",
    "CaseVolumeMetric",
    "MetricProtocol",
    "PooledDiceMetric",
    "PooledIoUMetric",
    "PooledScores",
    "SaliencyScores",
    "ScoredCase",
    "ScoredMap",
    "TransUNetDiceMetric",
    "TransUNetHausdorffDistanceMetric",
    "bootstrap_interval",
    "case_means",
    "create_metrics",
    "need_probabilities",
]
