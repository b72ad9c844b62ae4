# SPDX-License-Identifier: Apache-2.0
"""What the per-case metrics share: input check, empty structures and means over cases and classes."""

from __future__ import annotations

import torch
from monai.data import MetaTensor
from monai.metrics import CumulativeIterationMetric
from monai.utils import MetricReduction, look_up_option

__all__ = ["CaseScores"]

_REDUCTIONS = (MetricReduction.MEAN, MetricReduction.MEAN_BATCH, MetricReduction.NONE)


class CaseScores(CumulativeIterationMetric):
    """
    Mix-in for metrics that give one score for each case and class, NaN where there is nothing to score.

    It replaces MONAI's reductions, because those report 0 for a class that no case contains, and because MONAI's
    ``"mean"`` averages the classes of a case first, so that a class present in few cases weighs less than the others.
    Buffers and the gathering over processes stay MONAI's.

    With scores ``s[n, c]`` of case ``n`` and class ``c``, and every mean taken over the values that are not NaN:

    - ``"mean_batch"``: ``m[c]``, mean of ``s[n, c]`` over the cases; NaN for a class without a value.
    - ``"mean"``: mean of ``m[c]`` over the classes, one number; NaN when no class has a value.
    - ``"none"``: ``s`` itself.
    """

    reduction: MetricReduction | str

    def aggregate(self, reduction: MetricReduction | str | None = None) -> torch.Tensor:
        """
        Reduce the scores of all cases seen since the last reset, on all processes.

        Args:
            reduction: ``"mean"``, ``"mean_batch"`` or ``"none"``, see the class. Defaults to None: the one given to the
                constructor.

        Returns:
            a scalar, ``(K,)`` or ``(N, K)`` for the three reductions; N cases, K scored classes.

        Raises:
            RuntimeError: when no case has been scored.
            ValueError: when ``reduction`` is not one of the three.
        """
        scores = self._scores()
        mode = look_up_option(reduction or self.reduction, _REDUCTIONS)
        if mode == MetricReduction.NONE:
            return scores
        per_class = scores.nanmean(dim=0)
        return per_class if mode == MetricReduction.MEAN_BATCH else per_class.nanmean()

    def n_valid(self) -> torch.Tensor:
        """
        Returns:
            for each scored class, how many cases have a value and so count in its mean, ``(K,)``.

        Raises:
            RuntimeError: when no case has been scored.
        """
        return (~self._scores().isnan()).sum(dim=0)

    def _scores(self) -> torch.Tensor:
        scores = self.get_buffer()
        if scores is None:
            raise RuntimeError(f"{type(self).__name__} has scored no case: call it with predictions and labels first.")
        return scores


def as_masks(y_pred: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Check a pair of one-hot tensors and convert it to boolean ones.

    Args:
        y_pred: prediction, ``(B, C, *spatial)``, zeros and ones.
        y: truth, of the same shape.

    Returns:
        both as boolean tensors without metadata.

    Raises:
        ValueError: when the shapes differ or have no spatial axis, or when a value is neither 0 nor 1.
    """
    if y_pred.shape != y.shape or y.ndim < 3:
        raise ValueError(
            f"expected a prediction and a label of one shape (B, C, *spatial), got {tuple(y_pred.shape)} and "
            f"{tuple(y.shape)}; one-hot both with monai.transforms.AsDiscreted(to_onehot=...), and invert the resizing "
            "of the prediction first."
        )
    masks = []
    for name, one_hot in (("prediction", y_pred), ("label", y)):
        mask = one_hot.as_tensor() if isinstance(one_hot, MetaTensor) else one_hot
        if not ((mask == 0) | (mask == 1)).all():
            raise ValueError(
                f"the {name} holds values other than 0 and 1 (from {mask.min().item():g} to {mask.max().item():g}); "
                "turn logits or class numbers into one-hot channels with "
                "monai.transforms.AsDiscreted(argmax=..., to_onehot=...)."
            )
        masks.append(mask.bool())
    return masks[0], masks[1]


def drop_background(masks: torch.Tensor, include_background: bool) -> torch.Tensor:
    """Channels that are scored, ``(B, C, *spatial)`` to ``(B, K, *spatial)``; a single channel is never background."""
    return masks if include_background or masks.shape[1] == 1 else masks[:, 1:]


def is_present(masks: torch.Tensor) -> torch.Tensor:
    """Whether each structure has any voxel, ``(B, K, *spatial)`` to boolean ``(B, K)``."""
    return masks.flatten(2).any(dim=2)
