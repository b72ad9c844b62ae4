# SPDX-License-Identifier: Apache-2.0
"""Mean IoU from one confusion matrix over a whole set."""

from __future__ import annotations

import torch

from .pooled_scores import PooledScores

__all__ = ["PooledIoUMetric"]


class PooledIoUMetric(PooledScores):
    """
    Intersection over union of each class over all voxels of the set, ``|P and T| / |P or T|``, background counted.

    This is the mIoU of papers on natural images and, as ``miou_pooled``, of the SAM 2 adapters this package follows.
    torchmetrics' ``MulticlassJaccardIndex`` is the same, mean included, but shows 0 for a class that is in neither.

    Args:
        reduction: what :py:meth:`aggregate` returns: ``"mean"`` over the classes (one number, fit for a key metric) or
            ``"mean_batch"`` (one per class, background first). Defaults to ``"mean"``.

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
        """
        Args:
            confusion: counts of voxels, truth in rows and prediction in columns, ``(C, C)``.

        Returns:
            IoU of each class, NaN for one that is in neither, ``(C,)``.
        """
        common = confusion.diagonal()
        return common / (confusion.sum(dim=0) + confusion.sum(dim=1) - common)
