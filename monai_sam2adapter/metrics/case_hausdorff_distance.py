# SPDX-License-Identifier: Apache-2.0
"""Hausdorff distance of each case and class, in mm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.metrics import HausdorffDistanceMetric, compute_hausdorff_distance
from monai.utils import MetricReduction, ensure_tuple

from .case_scores import CaseScores, as_masks, drop_background

__all__ = ["CaseHausdorffDistanceMetric"]


class CaseHausdorffDistanceMetric(CaseScores, HausdorffDistanceMetric):
    """
    Hausdorff distance between the surfaces of each case and class, in mm, with a fixed policy for absent structures.

    In neither prediction nor truth: NaN, counts in no mean. In only one of the two: the diagonal of the image,
    ``sqrt(sum_i (size_i * spacing_i)^2)``, which no distance inside it reaches. MONAI's own metric gives NaN there, so
    that a network which misses a structure altogether is rewarded.

    The distance itself is MONAI's: surfaces are the voxels that touch the outside of the structure, the percentile is
    taken in each direction and the larger of the two is the result.

    Args:
        percentile: percentile of the surface distances, 0 to 100; 100 is the maximum. Defaults to 95 (HD95).
        spacing: distance of voxels along each spatial axis, one number or one for each axis, in mm. Defaults to None:
            read from the affine of the label, else of the prediction, when it is a ``MetaTensor``. A given spacing
            goes before that of the images.
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
        super().__init__(include_background=include_background, percentile=percentile, reduction=reduction)
        self.spacing = spacing

    def _compute_tensor(  # type: ignore[override]
        self, y_pred: torch.Tensor, y: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        """
        Args:
            y_pred: one-hot prediction, ``(B, C, *spatial)``.
            y: one-hot truth, of the same shape.
            kwargs: none are used; MONAI's signature.

        Returns:
            distances in mm or NaN, ``(B, K)``, K scored classes.

        Raises:
            ValueError: when the two are no one-hot tensors of one shape, or when there is no spacing.
        """
        pred, truth = (drop_background(mask, self.include_background) for mask in as_masks(y_pred, y))
        distances = torch.full(pred.shape[:2], float("nan"), device=pred.device)
        for case, case_spacing in enumerate(self._spacings(y_pred, y)):
            for structure in range(pred.shape[1]):
                distances[case, structure] = self._distance(pred[case, structure], truth[case, structure], case_spacing)
        return distances

    def _distance(self, pred: torch.Tensor, truth: torch.Tensor, spacing: list[float]) -> float:
        """Distance in mm of two boolean masks of one structure."""
        if not pred.any() and not truth.any():
            return float("nan")
        if not pred.any() or not truth.any():
            return sum((size * step) ** 2 for size, step in zip(pred.shape, spacing, strict=True)) ** 0.5
        return compute_hausdorff_distance(
            pred[None, None], truth[None, None], include_background=True, percentile=self.percentile, spacing=spacing
        ).item()

    def _spacings(self, y_pred: torch.Tensor, y: torch.Tensor) -> list[list[float]]:
        """Spacing in mm along each spatial axis for each case of the batch."""
        n_cases, n_axes = len(y), y.ndim - 2
        if self.spacing is not None:
            steps = ensure_tuple(self.spacing)
            if len(steps) not in (1, n_axes):
                raise ValueError(f"spacing must be one number or {n_axes}, one for each spatial axis, got {steps}.")
            return [[float(step) for step in steps] * (n_axes // len(steps))] * n_cases
        for image in (y, y_pred):
            if isinstance(image, MetaTensor):
                # a batch made by a data loader has a list of spacings, a decollated case just its own
                spacings = image.pixdim if image.is_batch else [image.pixdim] * n_cases
                return [[float(step) for step in case[:n_axes]] for case in spacings]
        raise ValueError(
            "the Hausdorff distance in mm needs the spacing of the voxels, but label and prediction are plain tensors; "
            "keep them MetaTensors (monai.data.set_track_meta(True)) or pass spacing=[...]."
        )
