# SPDX-License-Identifier: Apache-2.0
"""What the surface distances of each case share: spacing, and the policy for absent structures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.utils import MetricReduction, ensure_tuple

from .case_scores import CaseScores, as_masks, drop_background

__all__ = ["CaseDistanceScores"]


class CaseDistanceScores(CaseScores):
    """
    Base of the distances between the surfaces of each case and class, with a fixed policy for absent structures.

    In neither prediction nor truth: NaN, counts in no mean. In only one of the two: the diagonal of the image,
    ``sqrt(sum_i (size_i * spacing_i)^2)``, which no distance inside it reaches. MONAI's own metrics give NaN or
    infinity there, so that a network which misses a structure altogether is rewarded or hides all else.

    The surface are those voxels of a structure that share a face with the outside; what lies beyond the border of the
    image is outside.

    Args:
        spacing: distance of voxels along each spatial axis, one number or one for each axis, in mm; 1 gives distances
            in pixels. Defaults to None: read from the affine of the label, else of the prediction, when it is a
            ``MetaTensor``. A given spacing goes before that of the images.
        include_background: whether channel 0 is scored. Defaults to False; a single channel is always scored.
        reduction: what :py:meth:`aggregate` returns, see :py:class:`CaseScores`: ``"mean"`` (one number, fit for a key
            metric), ``"mean_batch"`` (one per class) or ``"none"``. Defaults to ``"mean"``.
    """

    def __init__(
        self,
        spacing: float | Sequence[float] | None = None,
        include_background: bool = False,
        reduction: MetricReduction | str = "mean",
    ) -> None:
        super().__init__()
        self.spacing = spacing
        self.include_background = include_background
        self.reduction = reduction

    @abstractmethod
    def _distance(self, pred: torch.Tensor, truth: torch.Tensor, spacing: list[float]) -> float:
        """Distance in mm of two boolean masks of one structure, ``(*spatial)``, neither of them empty."""

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
                p, t = pred[case, structure], truth[case, structure]
                if p.any() and t.any():
                    distances[case, structure] = self._distance(p, t, case_spacing)
                elif p.any() or t.any():
                    lengths = [size * step for size, step in zip(p.shape, case_spacing, strict=True)]
                    distances[case, structure] = sum(length**2 for length in lengths) ** 0.5
        return distances

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
            f"{type(self).__name__} needs the spacing of the voxels, but label and prediction are plain tensors; keep "
            "them MetaTensors (monai.data.set_track_meta(True)) or pass spacing=[...]."
        )
