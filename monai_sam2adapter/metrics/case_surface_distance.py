# SPDX-License-Identifier: Apache-2.0
"""Average surface distance of each case and class, in mm."""

from __future__ import annotations

import torch
from monai.metrics import compute_average_surface_distance

from .case_distance_scores import CaseDistanceScores

__all__ = ["CaseSurfaceDistanceMetric"]


class CaseSurfaceDistanceMetric(CaseDistanceScores):
    """
    Average symmetric surface distance of each case and class, in mm, with a fixed policy for absent structures.

    In neither prediction nor truth: NaN, counts in no mean. In only one of the two: the diagonal of the image, see
    :py:class:`CaseDistanceScores`.

    The distance itself is MONAI's: the mean over the surface voxels of prediction and truth together of the distance
    to the nearest surface voxel of the other. ``medpy.metric.binary.assd`` of medpy 0.5.2 is the same, to the
    precision of float32; that of medpy 0.4 averages the means of the two directions.

    Args:
        spacing: distance of voxels along each spatial axis, one number or one for each axis, in mm; 1 gives distances
            in pixels. Defaults to None: read from the affine of the label, else of the prediction, when it is a
            ``MetaTensor``. A given spacing goes before that of the images.
        include_background: whether channel 0 is scored. Defaults to False; a single channel is always scored.
        reduction: what :py:meth:`aggregate` returns, see :py:class:`CaseScores`: ``"mean"`` (one number, fit for a key
            metric), ``"mean_batch"`` (one per class) or ``"none"``. Defaults to ``"mean"``.
    """

    def _distance(self, pred: torch.Tensor, truth: torch.Tensor, spacing: list[float]) -> float:
        return compute_average_surface_distance(
            pred[None, None], truth[None, None], include_background=True, symmetric=True, spacing=spacing
        ).item()
