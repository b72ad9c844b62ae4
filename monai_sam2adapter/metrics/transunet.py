# SPDX-License-Identifier: Apache-2.0
"""Dice and HD95 of each case and class as the tables of TransUNet and its successors have them."""

from __future__ import annotations

import numpy as np
import torch
from monai.utils import MetricReduction

from .case_scores import CaseDistanceScores, CaseScores
from .scored_case import ScoredCase

__all__ = ["TransUNetDiceMetric", "TransUNetHausdorffDistanceMetric"]


class TransUNetDiceMetric(CaseScores):
    """
    Dice of each case and class by TransUNet's rule, only for comparison with tables of that family.

    Both present: ``2 |P and T| / (|P| + |T|)``. Only predicted: **1**, so that a false structure is rewarded. Not
    predicted: 0, also where the truth has none. Every case counts, nothing is NaN; the mean is over cases, then over
    classes. On a set in which every case has every class it equals :py:class:`CaseDiceMetric`.

    Those tables score whole volumes at the size of the original slices.

    Source: Chen et al., "TransUNet", arXiv:2102.04306, ``calculate_metric_percase`` in ``utils.py`` of
    github.com/Beckschen/TransUNet (Apache-2.0), on which the Synapse and ACDC tables of the family rest.

    Args:
        include_background: whether channel 0 is scored. Defaults to False; a single channel is always scored.
        reduction: see :py:class:`CaseScores`. Defaults to ``"mean"``.
        ignore_index: see :py:class:`CaseMetric`. Defaults to None.
    """

    def score_case(self, case: ScoredCase) -> torch.Tensor:
        common, pred, truth = case.counts(self.include_background)
        dice = 2 * common / (pred + truth).clamp(min=1)
        return torch.where((pred > 0) & (truth == 0), 1.0, dice)


class TransUNetHausdorffDistanceMetric(CaseDistanceScores):
    """
    HD95 of each case and class in **voxels** by TransUNet's rule, only for comparison with tables of that family.

    Both present: the 95th percentile of the surface distances of both directions together, every voxel a unit cube
    whatever its spacing; this is ``medpy.metric.binary.hd95`` without spacing, to the precision of float32. Else:
    **0**, the best value there is, also for a structure that is missed. Every case counts, nothing is NaN; the mean is
    over cases, then over classes.

    Source: as :py:class:`TransUNetDiceMetric`.

    Args:
        include_background: whether channel 0 is scored. Defaults to False; a single channel is always scored.
        reduction: see :py:class:`CaseScores`. Defaults to ``"mean"``.
        ignore_index: see :py:class:`CaseMetric`. Defaults to None.
    """

    def __init__(
        self,
        include_background: bool = False,
        reduction: MetricReduction | str = "mean",
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(1, include_background, reduction, ignore_index)

    def _distance(self, to_truth: torch.Tensor, to_pred: torch.Tensor) -> torch.Tensor:
        return torch.tensor(np.percentile(np.concatenate([to_truth, to_pred]), 95))

    def _absent(self, in_one: bool, diagonal: float) -> float:
        return 0.0
