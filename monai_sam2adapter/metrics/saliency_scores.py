# SPDX-License-Identifier: Apache-2.0
"""What the measures of salient object detection share: maps of probabilities, and thresholds for a whole set."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from monai.utils import MetricReduction, optional_import

from .case_scores import CaseScores

__all__ = ["SaliencyScores"]


class SaliencyScores(CaseScores):
    """
    Base of the measures that compare a map of probabilities with a mask, each case by itself, by pysodmetrics.

    The probabilities are taken as they are. pysodmetrics by itself and the test scripts published with SAM2-UNet and
    others first stretch each map to the whole range from 0 to 1: the surest pixel then counts as sure, however unsure
    the network is, and an image without an object gets one. ``monai.transforms.ScaleIntensityd`` does the same, where
    numbers are to be compared.

    A measure that is the best over 256 thresholds, ``"max"``, takes one threshold for the whole set, as is published:
    the scores of the cases are those at the threshold with the best mean.

    Channels are scored one by one. pysodmetrics decides what a mask without an object scores; nothing is NaN.

    Args:
        reduction: what :py:meth:`aggregate` returns, see :py:class:`CaseScores`: ``"mean"`` (one number, fit for a key
            metric), ``"mean_batch"`` (one per channel) or ``"none"``. Defaults to ``"mean"``.

    Raises:
        ImportError: when pysodmetrics is not installed.
    """

    def __init__(self, reduction: MetricReduction | str = "mean") -> None:
        super().__init__()
        self.reduction = reduction
        sod_metrics()  # before the work, not at the first case

    @abstractmethod
    def _score(self, pred: np.ndarray, truth: np.ndarray) -> float | np.ndarray:
        """A score, or one for each threshold, of probabilities, float64, and a boolean mask, both ``(X, Y)``."""

    def get_buffer(self) -> torch.Tensor | None:
        """
        Returns:
            scores of the cases seen since the last reset, on all processes, ``(N, K)``; None when there is none.
        """
        scores = super().get_buffer()
        if scores is None or scores.ndim == 2:
            return scores
        best = scores.mean(dim=0).argmax(dim=-1)  # (N, K, thresholds) -> (K,)
        return scores[:, torch.arange(len(best)), best]

    def _compute_tensor(  # type: ignore[override]
        self, y_pred: torch.Tensor, y: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        """
        Args:
            y_pred: probabilities, ``(B, K, X, Y)``.
            y: masks of 0 and 1, of the same shape.
            kwargs: none are used; MONAI's signature.

        Returns:
            scores from 0 to 1, ``(B, K)``, or ``(B, K, 256)`` with one for each threshold; float32.

        Raises:
            ValueError: when the two are no images of one shape, or a value is out of its range.
        """
        _check(y_pred, y)
        preds, truths = y_pred.double().numpy(force=True), y.bool().numpy(force=True)
        scores = [[self._score(*maps) for maps in zip(*case, strict=True)] for case in zip(preds, truths, strict=True)]
        return torch.as_tensor(np.array(scores), dtype=torch.float32, device=y_pred.device)


def sod_metrics() -> Any:
    """The package pysodmetrics, which is optional."""
    module, found = optional_import("py_sod_metrics")
    if not found:
        raise ImportError(
            "S-, E- and F-measure need pysodmetrics; install it with pip install 'monai-sam2adapter[sod]'."
        )
    return module


def _check(y_pred: torch.Tensor, y: torch.Tensor) -> None:
    if y_pred.shape != y.shape or y.ndim != 4:
        raise ValueError(
            f"expected probabilities and masks of one shape (B, K, X, Y), got {tuple(y_pred.shape)} and "
            f"{tuple(y.shape)}; resize the prediction to the mask first."
        )
    low, high = y_pred.min().item(), y_pred.max().item()
    if not 0 <= low <= high <= 1:  # written so that NaN is out of range too
        raise ValueError(
            f"the prediction has values from {low:g} to {high:g}, expected probabilities from 0 to 1; turn logits into "
            "them with monai.transforms.Activations(sigmoid=True)."
        )
    if not ((y == 0) | (y == 1)).all():
        raise ValueError(
            f"the mask holds values other than 0 and 1 (from {y.min().item():g} to {y.max().item():g}); cut it into 0 "
            "and 1 with GrayMaskToLabeld."
        )
