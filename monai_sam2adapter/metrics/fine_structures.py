# SPDX-License-Identifier: Apache-2.0
"""Scores that see borders, thin tubes and small components, which Dice of the whole hardly counts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics.utils import compute_voronoi_regions_fast
from monai.utils import MetricReduction
from skimage.morphology import skeletonize

from .case_scores import CaseDistanceScores, CaseScores
from .scored_case import ScoredCase

__all__ = ["CaseCenterlineDiceMetric", "CaseComponentDiceMetric", "CaseSurfaceDiceMetric"]


class CaseSurfaceDiceMetric(CaseDistanceScores):
    """
    Surface Dice of each case and class: the part of both surfaces that is within a tolerance of the other one.

    In neither prediction nor truth: NaN, counts in no mean. In only one of the two: 0. With the surface voxels of
    :py:class:`CaseDistanceScores`, it is ``monai.metrics.compute_surface_dice`` with a spacing.

    Source: Nikolov et al., arXiv:1809.04430.

    Args:
        tolerance: distance that counts as none, in mm, from 0. Defaults to 1.
        spacing: in mm, see :py:class:`CaseDistanceScores`; 1 makes the tolerance one in pixels. Defaults to None: that
            of the images.
        include_background: whether channel 0 is scored. Defaults to False; a single channel is always scored.
        reduction: see :py:class:`CaseScores`. Defaults to ``"mean"``.
        ignore_index: see :py:class:`CaseMetric`. Defaults to None.

    Raises:
        ValueError: when ``tolerance`` is negative.
    """

    def __init__(
        self,
        tolerance: float = 1.0,
        spacing: float | Sequence[float] | None = None,
        include_background: bool = False,
        reduction: MetricReduction | str = "mean",
        ignore_index: int | None = None,
    ) -> None:
        if not tolerance >= 0:
            raise ValueError(f"tolerance must be 0 mm or more, got {tolerance}.")
        super().__init__(spacing, include_background, reduction, ignore_index)
        self.tolerance = tolerance

    def _distance(self, to_truth: torch.Tensor, to_pred: torch.Tensor) -> torch.Tensor:
        return (torch.cat([to_truth, to_pred]) <= self.tolerance).float().mean()

    def _absent(self, in_one: bool, diagonal: float) -> float:
        return 0.0 if in_one else float("nan")


class _MaskScores(CaseScores):
    """Base of scores of the two masks of a class. In neither of them: NaN, counts in no mean. In only one: 0."""

    @abstractmethod
    def _score(self, pred: np.ndarray, truth: np.ndarray) -> float:
        """The score of two masks with something in each."""

    def score_case(self, case: ScoredCase) -> torch.Tensor:
        """
        Args:
            case: one case.

        Returns:
            scores from 0 to 1 or NaN, ``(K,)``, K scored classes.
        """
        scores = []
        for channel in case.channels(self.include_background):
            pred, truth = case.masks(channel)
            found = pred.any(), truth.any()
            scores.append(self._score(pred, truth) if all(found) else 0.0 if any(found) else float("nan"))
        return torch.tensor(scores, device=case.device)


class CaseCenterlineDiceMetric(_MaskScores):
    """
    Centerline Dice (clDice) of each case and class, for vessels, membranes and other tubes and sheets.

    The harmonic mean of the part of the prediction's skeleton that lies in the truth, and the part of the truth's that
    lies in the prediction; a skeleton is that of ``skimage.morphology.skeletonize``, or the structure itself where it
    is too small to have one. In neither prediction nor truth: NaN, counts in no mean. In only one of the two: 0.

    Source: Shit et al., "clDice", CVPR 2021, arXiv:2003.07311, section 3.

    Args:
        include_background: whether channel 0 is scored. Defaults to False; a single channel is always scored.
        reduction: see :py:class:`CaseScores`. Defaults to ``"mean"``.
        ignore_index: see :py:class:`CaseMetric`. Defaults to None.
    """

    def _score(self, pred: np.ndarray, truth: np.ndarray) -> float:
        precision, sensitivity = truth[_skeleton(pred)].mean(), pred[_skeleton(truth)].mean()
        return float(2 * precision * sensitivity / max(precision + sensitivity, 1e-12))


class CaseComponentDiceMetric(_MaskScores):
    """
    Dice of each component of each class, and of a case their mean: a small lesion counts as much as a large one.

    Voxels belong to the nearest component of the truth, each of which is scored among its own, so that a component
    which is missed counts as 0. It is ``monai.metrics.DiceMetric(per_component=True)``, class by class, but for a
    structure that the truth lacks: MONAI leaves the case out, here it has 0 where something is predicted and no value
    where nothing is.

    Args:
        include_background: whether channel 0 is scored. Defaults to False; a single channel is always scored.
        reduction: see :py:class:`CaseScores`. Defaults to ``"mean"``.
        ignore_index: see :py:class:`CaseMetric`. Defaults to None.
    """

    def _score(self, pred: np.ndarray, truth: np.ndarray) -> float:
        regions = compute_voronoi_regions_fast(truth).numpy()
        sizes = [np.bincount(regions[mask], minlength=regions.max() + 1)[1:] for mask in (pred & truth, pred, truth)]
        common, in_pred, in_truth = sizes
        return float((2 * common / (in_pred + in_truth)).mean())


def _skeleton(mask: np.ndarray) -> np.ndarray:
    skeleton = skeletonize(mask)
    return skeleton if skeleton.any() else mask
