# SPDX-License-Identifier: Apache-2.0
"""F-measure of each case."""

from __future__ import annotations

import numpy as np
from monai.utils import MetricReduction, look_up_option

from .saliency_scores import SaliencyScores, sod_metrics

__all__ = ["CaseFMeasureMetric"]

_STATISTICS = ("weighted", "mean", "max", "adaptive")


class CaseFMeasureMetric(SaliencyScores):
    """
    F-measure of each case, ``(1 + b) P R / (b P + R)`` of precision and recall.

    A mask without an object scores 0, whatever is predicted.

    Source: Achanta et al., "Frequency-tuned Salient Region Detection", CVPR 2009 (``b`` is 0.3), and for "weighted"
    Margolin et al., "How to Evaluate Foreground Maps?", CVPR 2014 (``b`` is 1); computed by pysodmetrics.

    Args:
        statistic: how probabilities are taken: "weighted" as they are, with errors weighted by where they are; or as
            binary maps, "mean" of all 256 thresholds, "max", the one that is best for the whole set, or "adaptive",
            twice the mean probability of the image. Defaults to "weighted".
        reduction: what :py:meth:`aggregate` returns, see :py:class:`CaseScores`. Defaults to ``"mean"``.

    Raises:
        ImportError: when pysodmetrics is not installed.
        ValueError: when ``statistic`` is unknown.
    """

    def __init__(self, statistic: str = "weighted", reduction: MetricReduction | str = "mean") -> None:
        super().__init__(reduction)
        self.statistic = look_up_option(statistic, _STATISTICS)

    def _score(self, pred: np.ndarray, truth: np.ndarray) -> float | np.ndarray:
        if self.statistic == "weighted":
            weighted = sod_metrics().WeightedFmeasure()
            weighted.step(pred, truth, normalize=False)
            return weighted.weighted_fms[-1]
        adaptive = self.statistic == "adaptive"
        handler = sod_metrics().FmeasureHandler(with_dynamic=not adaptive, with_adaptive=adaptive)
        sod_metrics().FmeasureV2({"f": handler}).step(pred, truth, normalize=False)
        if adaptive:
            return handler.adaptive_results[-1]
        curve = handler.dynamic_results[-1]
        return curve.mean() if self.statistic == "mean" else curve
