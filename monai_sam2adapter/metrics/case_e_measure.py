# SPDX-License-Identifier: Apache-2.0
"""E-measure of each case."""

from __future__ import annotations

import numpy as np
from monai.utils import MetricReduction, look_up_option

from .saliency_scores import SaliencyScores, sod_metrics

__all__ = ["CaseEMeasureMetric"]

_STATISTICS = ("mean", "max", "adaptive")


class CaseEMeasureMetric(SaliencyScores):
    """
    E-measure of each case: how well a binary map is aligned with the mask, pixel by pixel and as a whole.

    A mask without an object scores the part of the pixels that are not predicted.

    Source: Fan et al., "Enhanced-alignment Measure for Binary Foreground Map Evaluation", IJCAI 2018; computed by
    pysodmetrics.

    Args:
        statistic: how probabilities become binary maps: "mean" of all 256 thresholds, "max", the one that is best for
            the whole set, or "adaptive", twice the mean probability of the image. Defaults to "mean".
        reduction: what :py:meth:`aggregate` returns, see :py:class:`CaseScores`. Defaults to ``"mean"``.

    Raises:
        ImportError: when pysodmetrics is not installed.
        ValueError: when ``statistic`` is unknown.
    """

    def __init__(self, statistic: str = "mean", reduction: MetricReduction | str = "mean") -> None:
        super().__init__(reduction)
        self.statistic = look_up_option(statistic, _STATISTICS)

    def _score(self, pred: np.ndarray, truth: np.ndarray) -> float | np.ndarray:
        measure = sod_metrics().Emeasure()
        measure.step(pred, truth, normalize=False)
        if self.statistic == "adaptive":
            return measure.adaptive_ems[-1]
        curve = measure.changeable_ems[-1]
        return curve.mean() if self.statistic == "mean" else curve
