# SPDX-License-Identifier: Apache-2.0
"""What the metrics of one confusion matrix over a whole set share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from monai.utils import MetricReduction, look_up_option

from .case_scores import as_masks

__all__ = ["PooledScores"]


class PooledScores(CumulativeIterationMetric):
    """
    Base of the metrics that count the voxels of all cases in one confusion matrix and score each class once.

    Large cases weigh more than small ones, and a class that a case lacks costs nothing there. The background is a class
    like the others. A single channel stands for foreground and background. A class that is in neither prediction nor
    truth of any case has no score: NaN, counts in no mean; one that is in only one of the two has 0.

    The buffer holds one matrix for each case, so that processes gather little and a report can resample the cases.

    Args:
        reduction: what :py:meth:`aggregate` returns: ``"mean"`` over the classes (one number, fit for a key metric) or
            ``"mean_batch"`` (one per class, background first). Defaults to ``"mean"``.
    """

    def __init__(self, reduction: MetricReduction | str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    @staticmethod
    @abstractmethod
    def score(confusion: torch.Tensor) -> torch.Tensor:
        """
        Args:
            confusion: counts of voxels, truth in rows and prediction in columns, ``(C, C)``.

        Returns:
            score of each class, NaN for one that is in neither, ``(C,)``.
        """

    def confusion_matrix(self) -> torch.Tensor:
        """
        Returns:
            counts of the voxels of all cases on all processes, truth in rows and prediction in columns, ``(C, C)``.

        Raises:
            RuntimeError: when no case has been counted.
        """
        matrices = self.get_buffer()
        if matrices is None:
            raise RuntimeError(f"{type(self).__name__} has counted no case: call it with predictions and labels first.")
        return matrices.sum(dim=0)

    def aggregate(self, reduction: MetricReduction | str | None = None) -> torch.Tensor:
        """
        Score the cases seen since the last reset, on all processes.

        Args:
            reduction: ``"mean"`` or ``"mean_batch"``. Defaults to None: the one given to the constructor.

        Returns:
            a scalar or ``(C,)`` for the two reductions.

        Raises:
            RuntimeError: when no case has been counted.
            ValueError: when ``reduction`` is not one of the two.
        """
        scores = self.score(self.confusion_matrix())
        mode = look_up_option(reduction or self.reduction, (MetricReduction.MEAN, MetricReduction.MEAN_BATCH))
        return scores if mode == MetricReduction.MEAN_BATCH else scores.nanmean()

    def _compute_tensor(  # type: ignore[override]
        self, y_pred: torch.Tensor, y: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        """
        Args:
            y_pred: one-hot prediction, ``(B, C, *spatial)``.
            y: one-hot truth, of the same shape.
            kwargs: none are used; MONAI's signature.

        Returns:
            a confusion matrix for each case, int64, ``(B, C, C)``; ``(B, 2, 2)`` for a single channel.

        Raises:
            ValueError: when the two are no one-hot tensors of one shape, or a voxel has no class or more than one.
        """
        masks = dict(zip(("prediction", "label"), as_masks(y_pred, y), strict=True))
        for name, mask in masks.items():
            if mask.shape[1] == 1:
                masks[name] = torch.cat([~mask, mask], dim=1)
            # every voxel has a class, and there are as many classes as voxels: just one each
            elif not mask.any(dim=1).all() or mask.sum() != mask[:, 0].numel():
                raise ValueError(
                    f"the {name} has voxels of no class or of several, expected one of the {mask.shape[1]} channels at "
                    "each voxel; a pooled score needs classes that exclude each other: make them one-hot with "
                    "monai.transforms.AsDiscreted(argmax=..., to_onehot=...)."
                )
        cases = zip(masks["prediction"].flatten(2), masks["label"].flatten(2), strict=True)
        return torch.stack([_confusion(pred, truth) for pred, truth in cases])


def _confusion(pred: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Counts of one case, truth in rows; class by class, since class numbers of int64 would take 8 times the masks."""
    return torch.stack([pred[:, inside].sum(dim=1) for inside in truth])
