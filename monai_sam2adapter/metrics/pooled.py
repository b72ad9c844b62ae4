# SPDX-License-Identifier: Apache-2.0
"""Dice and IoU from one confusion matrix over a whole set."""

from __future__ import annotations

from abc import abstractmethod

import torch
from monai.utils import MetricReduction, look_up_option

from .case_scores import CaseMetric
from .scored_case import ScoredCase

__all__ = ["PooledDiceMetric", "PooledIoUMetric", "PooledScores"]


class PooledScores(CaseMetric):
    """
    Base of the metrics that count the voxels of all cases in one confusion matrix and score each class once.

    Large cases weigh more than small ones, and a class that a case lacks costs nothing there. The background is a class
    like the others. A single channel stands for foreground and background. A class that is in neither prediction nor
    truth of any case has no score: NaN, counts in no mean; one that is in only one of the two has 0.

    Classes that overlap have a matrix each, of what is there and what is not; there is no background then.

    The buffer holds one matrix for each case, so that processes gather little and a report can resample the cases.

    Args:
        reduction: what :py:meth:`aggregate` returns: ``"mean"`` over the classes (one number, fit for a key metric) or
            ``"mean_batch"`` (one per class, background first). Defaults to ``"mean"``.
        ignore_index: see :py:class:`CaseMetric`. Defaults to None.
        overlapping: see :py:class:`CaseMetric`. Defaults to False.
    """

    def __init__(
        self,
        reduction: MetricReduction | str = "mean",
        ignore_index: int | None = None,
        overlapping: bool = False,
    ) -> None:
        super().__init__(ignore_index, overlapping)
        self.reduction = reduction

    @staticmethod
    @abstractmethod
    def score(confusion: torch.Tensor) -> torch.Tensor:
        """
        Args:
            confusion: counts of voxels, truth in rows and prediction in columns, ``(C, C)``; of classes that overlap
                one for each, ``(C, 2, 2)``.

        Returns:
            score of each class, NaN for one that is in neither, ``(C,)``.
        """

    def score_case(self, case: ScoredCase) -> torch.Tensor:
        """
        Args:
            case: one case.

        Returns:
            its confusion matrix, see :py:attr:`ScoredCase.confusion`.
        """
        return case.confusion

    def confusion_matrix(self) -> torch.Tensor:
        """
        Returns:
            counts of the voxels of all cases on all processes, truth in rows and prediction in columns, ``(C, C)``, or
            ``(C, 2, 2)`` of classes that overlap.

        Raises:
            RuntimeError: when no case has been scored.
        """
        return self._scores().sum(dim=0)

    def aggregate(self, reduction: MetricReduction | str | None = None) -> torch.Tensor:
        """
        Score the cases seen since the last reset, on all processes.

        Args:
            reduction: ``"mean"`` or ``"mean_batch"``. Defaults to None: the one given to the constructor.

        Returns:
            a scalar or ``(C,)`` for the two reductions.

        Raises:
            RuntimeError: when no case has been scored.
            ValueError: when ``reduction`` is not one of the two.
        """
        scores = self.score(self.confusion_matrix())
        mode = look_up_option(reduction or self.reduction, (MetricReduction.MEAN, MetricReduction.MEAN_BATCH))
        return scores if mode == MetricReduction.MEAN_BATCH else scores.nanmean()


class PooledIoUMetric(PooledScores):
    """
    Intersection over union of each class over all voxels of the set, ``|P and T| / |P or T|``, background counted.

    This is the mIoU of papers on natural images and, as ``miou_pooled``, of the SAM 2 adapters this package follows.
    torchmetrics' ``MulticlassJaccardIndex`` is the same, mean included, but shows 0 for a class that is in neither.

    Args:
        reduction: see :py:class:`PooledScores`. Defaults to ``"mean"``.
        ignore_index: see :py:class:`CaseMetric`. Defaults to None.
        overlapping: see :py:class:`CaseMetric`. Defaults to False.

    Example:
        >>> import torch
        >>> from monai_sam2adapter.metrics import PooledIoUMetric
        >>> metric = PooledIoUMetric(reduction="mean_batch")
        >>> truth = torch.tensor([[[0.0, 0.0, 0.0, 1.0]]])
        >>> pred = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])
        >>> _ = metric(y_pred=pred, y=truth)
        >>> metric.aggregate()
        tensor([0.6667, 0.5000])
    """

    @staticmethod
    def score(confusion: torch.Tensor) -> torch.Tensor:
        common, pred, truth = _counts(confusion)
        return common / (pred + truth - common)


class PooledDiceMetric(PooledScores):
    """
    Dice of each class over all voxels of the set, ``2 |P and T| / (|P| + |T|)``, background counted.

    Args:
        reduction: see :py:class:`PooledScores`. Defaults to ``"mean"``.
        ignore_index: see :py:class:`CaseMetric`. Defaults to None.
        overlapping: see :py:class:`CaseMetric`. Defaults to False.
    """

    @staticmethod
    def score(confusion: torch.Tensor) -> torch.Tensor:
        common, pred, truth = _counts(confusion)
        return 2 * common / (pred + truth)


def _counts(confusion: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Voxels of each class in both, in the prediction and in the truth, ``(C,)`` each."""
    if confusion.ndim == 3:
        return confusion[:, 1, 1], confusion[:, :, 1].sum(dim=1), confusion[:, 1].sum(dim=1)
    return confusion.diagonal(), confusion.sum(dim=0), confusion.sum(dim=1)
