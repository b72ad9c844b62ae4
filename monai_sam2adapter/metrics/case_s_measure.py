# SPDX-License-Identifier: Apache-2.0
"""S-measure of each case."""

from __future__ import annotations

import numpy as np

from .saliency_scores import SaliencyScores, sod_metrics

__all__ = ["CaseSMeasureMetric"]


class CaseSMeasureMetric(SaliencyScores):
    """
    S-measure of each case: how alike probabilities and mask are in structure, object by object and region by region.

    A mask without an object scores 1 minus the mean probability. The weight of the two halves is 0.5 each.

    Source: Fan et al., "Structure-measure: A New Way to Evaluate Foreground Maps", ICCV 2017; computed by pysodmetrics.

    Args:
        reduction: what :py:meth:`aggregate` returns, see :py:class:`CaseScores`. Defaults to ``"mean"``.

    Raises:
        ImportError: when pysodmetrics is not installed.
    """

    def _score(self, pred: np.ndarray, truth: np.ndarray) -> float:
        measure = sod_metrics().Smeasure()
        measure.step(pred, truth, normalize=False)
        return measure.sms[-1]
