# SPDX-License-Identifier: Apache-2.0
"""Hausdorff distance of each case and class, in mm."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.metrics import compute_hausdorff_distance
from monai.utils import MetricReduction

from .case_distance_scores import CaseDistanceScores

__all__ = ["CaseHausdorffDistanceMetric"]


class CaseHausdorffDistanceMetric(CaseDistanceScores):
    """
    Hausdorff distance between the surfaces of each case and class, in mm, with a fixed policy for absent structures.

    In neither prediction nor truth: NaN, counts in no mean. In only one of the two: the diagonal of the image, see
    :py:class:`CaseDistanceScores`.

    The distance itself is MONAI's: the percentile is taken in each direction and the larger of the two is the result.
    ``medpy.metric.binary.hd`` is the same for percentile 100. Its ``hd95`` takes the percentile of both directions
    together, which is mostly smaller; :py:class:`TransUNetHausdorffDistanceMetric` is that one.

    Args:
        percentile: percentile of the surface distances, 0 to 100; 100 is the maximum. Defaults to 95 (HD95).
        spacing: distance of voxels along each spatial axis, one number or one for each axis, in mm; 1 gives distances
            in pixels. Defaults to None: read from the affine of the label, else of the prediction, when it is a
            ``MetaTensor``. A given spacing goes before that of the images.
        include_background: whether channel 0 is scored. Defaults to False; a single channel is always scored.
        reduction: what :py:meth:`aggregate` returns, see :py:class:`CaseScores`: ``"mean"`` (one number, fit for a key
            metric), ``"mean_batch"`` (one per class) or ``"none"``. Defaults to ``"mean"``.

    Raises:
        ValueError: when ``percentile`` is not above 0 and at most 100.
    """

    def __init__(
        self,
        percentile: float = 95,
        spacing: float | Sequence[float] | None = None,
        include_background: bool = False,
        reduction: MetricReduction | str = "mean",
    ) -> None:
        if not 0 < percentile <= 100:
            raise ValueError(f"percentile must be above 0 and at most 100, got {percentile}.")
        super().__init__(spacing, include_background, reduction)
        self.percentile = percentile

    def _distance(self, pred: torch.Tensor, truth: torch.Tensor, spacing: list[float]) -> float:
        return compute_hausdorff_distance(
            pred[None, None], truth[None, None], include_background=True, percentile=self.percentile, spacing=spacing
        ).item()
