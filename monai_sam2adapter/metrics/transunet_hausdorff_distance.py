# SPDX-License-Identifier: Apache-2.0
"""HD95 of each case and class as the tables of TransUNet and its successors have it."""

from __future__ import annotations

import numpy as np
import torch
from monai.metrics import get_mask_edges, get_surface_distance
from monai.utils import MetricReduction

from .case_scores import CaseScores, as_masks, drop_background

__all__ = ["TransUNetHausdorffDistanceMetric"]


class TransUNetHausdorffDistanceMetric(CaseScores):
    """
    HD95 of each case and class in **voxels** by TransUNet's rule, only for comparison with tables of that family.

    Both present: the 95th percentile of the surface distances of both directions together, every voxel a unit cube
    whatever its spacing; this is ``medpy.metric.binary.hd95`` without spacing, to the precision of float32. Else:
    **0**, the best value there is, also for a structure that is missed. Every case counts, nothing is NaN; the mean is
    over cases, then over classes.

    Source: as :py:class:`TransUNetDiceMetric`.

    Args:
        include_background: whether channel 0 is scored. Defaults to False; a single channel is always scored.
        reduction: what :py:meth:`aggregate` returns, see :py:class:`CaseScores`: ``"mean"`` (one number, fit for a key
            metric), ``"mean_batch"`` (one per class) or ``"none"``. Defaults to ``"mean"``.
    """

    def __init__(self, include_background: bool = False, reduction: MetricReduction | str = "mean") -> None:
        super().__init__()
        self.include_background = include_background
        self.reduction = reduction

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """
        Args:
            y_pred: one-hot prediction, ``(B, C, *spatial)``.
            y: one-hot truth, of the same shape.

        Returns:
            distances in voxels, ``(B, K)``, K scored classes.

        Raises:
            ValueError: when the two are no one-hot tensors of one shape.
        """
        pred, truth = (drop_background(mask, self.include_background) for mask in as_masks(y_pred, y))
        distances = torch.zeros(pred.shape[:2], device=pred.device)
        for case, structure in np.ndindex(*pred.shape[:2]):
            p, t = pred[case, structure], truth[case, structure]
            if p.any() and t.any():
                distances[case, structure] = _pooled_hd95(p, t)
        return distances


def _pooled_hd95(pred: torch.Tensor, truth: torch.Tensor) -> float:
    edges = get_mask_edges(pred.cpu().numpy(), truth.cpu().numpy())
    distances = [get_surface_distance(*pair) for pair in (edges, edges[::-1])]
    return float(np.percentile(np.concatenate(distances), 95))
