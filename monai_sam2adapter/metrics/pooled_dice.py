# SPDX-License-Identifier: Apache-2.0
"""Mean Dice from one confusion matrix over a whole set."""

from __future__ import annotations

import torch

from .pooled_scores import PooledScores

__all__ = ["PooledDiceMetric"]


class PooledDiceMetric(PooledScores):
    """
    Dice of each class over all voxels of the set, ``2 |P and T| / (|P| + |T|)``, background counted.

    Args:
        reduction: what :py:meth:`aggregate` returns: ``"mean"`` over the classes (one number, fit for a key metric) or
            ``"mean_batch"`` (one per class, background first). Defaults to ``"mean"``.
    """

    @staticmethod
    def score(confusion: torch.Tensor) -> torch.Tensor:
        """
        Args:
            confusion: counts of voxels, truth in rows and prediction in columns, ``(C, C)``.

        Returns:
            Dice of each class, NaN for one that is in neither, ``(C,)``.
        """
        return 2 * confusion.diagonal() / (confusion.sum(dim=0) + confusion.sum(dim=1))
