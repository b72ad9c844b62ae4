# SPDX-License-Identifier: Apache-2.0
"""Measures of salient object detection, which compare a map of probabilities with a mask: S-, E-, F-measure and MAE."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils import MetricReduction, look_up_option, optional_import

from .case_scores import CaseScores
from .scored_case import without_ignored

__all__ = [
    "CaseEMeasureMetric",
    "CaseFMeasureMetric",
    "CaseMAEMetric",
    "CaseSMeasureMetric",
    "SaliencyScores",
    "ScoredMap",
]

_CURVE_STATISTICS = ("mean", "max", "adaptive")
_MEASURES_OF_PLACE = ("Smeasure", "WeightedFmeasure")


class ScoredMap:
    """
    Probabilities and mask of one case. E- and F-measure are computed when they are first asked for, and kept.

    Args:
        y_pred: probabilities, ``(K, *spatial)``.
        y: masks of 0 and 1, of the same shape.
        ignore_index: what marks pixels that do not count, see :py:class:`ScoredCase`. S-measure and weighted F-measure
            need the whole image: for them these pixels are background without a prediction. Defaults to None.
        overlapping: whether a pixel may have several classes, see :py:class:`ScoredCase`. Defaults to False.

    Attributes:
        device: where the probabilities were.
        probabilities: as given, 0 where a pixel does not count.
        truth: masks, likewise.
        counted: which pixels count, ``(*spatial)``.

    Raises:
        ValueError: when the two are not of one shape, or a value is out of its range. E-, F- and S-measure and MAE:
            when they are no images, ``(K, X, Y)``.
    """

    def __init__(
        self, y_pred: torch.Tensor, y: torch.Tensor, ignore_index: int | None = None, overlapping: bool = False
    ) -> None:
        self.overlapping = overlapping
        counted, y_pred, y = without_ignored(y_pred, y, ignore_index, overlapping)
        _check(y_pred, y)
        self.device = y_pred.device
        self.probabilities, self.truth = (
            image.as_tensor() if isinstance(image, MetaTensor) else image for image in (y_pred, y)
        )
        self.counted = torch.from_numpy(counted).to(self.device)

    @cached_property
    def images(self) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities and masks of images, ``(K, X, Y)`` each."""
        if self.truth.ndim != 3:
            raise ValueError(
                f"measures of salient objects are of images (K, X, Y), got {tuple(self.truth.shape)}; leave them out "
                "of metrics for volumes."
            )
        return self.probabilities.double().numpy(force=True), self.truth.bool().numpy(force=True)

    @cached_property
    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Those that count."""
        if self.counted.all():
            return self.images
        probabilities, masks = (image[:, None, self.counted.numpy(force=True)] for image in self.images)
        return probabilities, masks

    def step(self, measure: str) -> list[Any]:
        """
        Args:
            measure: name of a measure of pysodmetrics.

        Returns:
            such a measure for each channel, which has been shown that channel; those that depend on where pixels lie
            have seen all of them.
        """
        shown = self.images if measure in _MEASURES_OF_PLACE else self.pixels
        return [_step(getattr(sod_metrics(), measure)(), pair) for pair in zip(*shown, strict=True)]

    @cached_property
    def e_measures(self) -> list[tuple[np.ndarray, float]]:
        """E-measure at 256 thresholds and at the adaptive one, for each channel."""
        return [(measure.changeable_ems[-1], measure.adaptive_ems[-1]) for measure in self.step("Emeasure")]

    @cached_property
    def f_measures(self) -> list[tuple[np.ndarray, float]]:
        """F-measure at 256 thresholds and at the adaptive one, for each channel."""
        found = []
        for pair in zip(*self.pixels, strict=True):
            handler = sod_metrics().FmeasureHandler(with_dynamic=True, with_adaptive=True)
            _step(sod_metrics().FmeasureV2({"f": handler}), pair)
            found.append((handler.dynamic_results[-1], handler.adaptive_results[-1]))
        return found


class SaliencyScores(CaseScores):
    """
    Base of the measures that compare a map of probabilities with a mask, each case by itself.

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
        ignore_index: see :py:class:`CaseMetric` and :py:class:`ScoredMap`. Defaults to None.

    Raises:
        ImportError: when pysodmetrics is not installed.
    """

    case_type = ScoredMap

    def __init__(self, reduction: MetricReduction | str = "mean", ignore_index: int | None = None) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        sod_metrics()  # before the work, not at the first case

    @abstractmethod
    def _channel_scores(self, case: ScoredMap) -> Any:
        """For each channel a score, or one for each threshold."""

    def score_case(self, case: ScoredMap) -> torch.Tensor:
        """
        Args:
            case: one case.

        Returns:
            scores from 0 to 1, ``(K,)``, or ``(K, 256)`` with one for each threshold; float32.
        """
        scores = np.array(self._channel_scores(case))
        return torch.as_tensor(scores, dtype=torch.float32, device=case.device)

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


class CaseSMeasureMetric(SaliencyScores):
    """
    S-measure of each case: how alike probabilities and mask are in structure, object by object and region by region.

    A mask without an object scores 1 minus the mean probability. The weight of the two halves is 0.5 each.

    Source: Fan et al., "Structure-measure: A New Way to Evaluate Foreground Maps", ICCV 2017; computed by pysodmetrics.

    Args:
        reduction: see :py:class:`SaliencyScores`. Defaults to ``"mean"``.
        ignore_index: see :py:class:`SaliencyScores`. Defaults to None.

    Raises:
        ImportError: when pysodmetrics is not installed.
    """

    def _channel_scores(self, case: ScoredMap) -> list[float]:
        return [measure.sms[-1] for measure in case.step("Smeasure")]


class CaseEMeasureMetric(SaliencyScores):
    """
    E-measure of each case: how well a binary map is aligned with the mask, pixel by pixel and as a whole.

    A mask without an object scores the part of the pixels that are not predicted.

    Source: Fan et al., "Enhanced-alignment Measure for Binary Foreground Map Evaluation", IJCAI 2018; computed by
    pysodmetrics.

    Args:
        statistic: how probabilities become binary maps: "mean" of all 256 thresholds, "max", the one that is best for
            the whole set, or "adaptive", twice the mean probability of the image. Defaults to "mean".
        reduction: see :py:class:`SaliencyScores`. Defaults to ``"mean"``.
        ignore_index: see :py:class:`SaliencyScores`. Defaults to None.

    Raises:
        ImportError: when pysodmetrics is not installed.
        ValueError: when ``statistic`` is unknown.
    """

    def __init__(
        self,
        statistic: str = "mean",
        reduction: MetricReduction | str = "mean",
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(reduction, ignore_index)
        self.statistic = look_up_option(statistic, _CURVE_STATISTICS)

    def _channel_scores(self, case: ScoredMap) -> list[Any]:
        return [_at_thresholds(self.statistic, *measure) for measure in case.e_measures]


class CaseFMeasureMetric(SaliencyScores):
    """
    F-measure of each case, ``(1 + b) P R / (b P + R)`` of precision and recall.

    A mask without an object scores 0, whatever is predicted.

    Source: Achanta et al., "Frequency-tuned Salient Region Detection", CVPR 2009 (``b`` is 0.3), and for "weighted"
    Margolin et al., "How to Evaluate Foreground Maps?", CVPR 2014 (``b`` is 1); computed by pysodmetrics.

    Args:
        statistic: how probabilities are taken: "weighted" as they are, with errors weighted by where they are; or as
            binary maps, "mean" of all 256 thresholds, "max", the one that is best for the whole set, or "adaptive",
            twice the mean probability of the image. Defaults to "weighted".
        reduction: see :py:class:`SaliencyScores`. Defaults to ``"mean"``.
        ignore_index: see :py:class:`SaliencyScores`. Defaults to None.

    Raises:
        ImportError: when pysodmetrics is not installed.
        ValueError: when ``statistic`` is unknown.
    """

    def __init__(
        self,
        statistic: str = "weighted",
        reduction: MetricReduction | str = "mean",
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(reduction, ignore_index)
        self.statistic = look_up_option(statistic, ("weighted", *_CURVE_STATISTICS))

    def _channel_scores(self, case: ScoredMap) -> list[Any]:
        if self.statistic == "weighted":
            return [measure.weighted_fms[-1] for measure in case.step("WeightedFmeasure")]
        return [_at_thresholds(self.statistic, *measure) for measure in case.f_measures]


class CaseMAEMetric(CaseScores):
    """
    Mean absolute difference of probabilities and mask of each case, over all channels, or of each that may overlap:
    ``monai.metrics.MAEMetric`` from a scoring that others share.

    Args:
        reduction: see :py:class:`CaseScores`. Defaults to ``"mean"``.
        ignore_index: see :py:class:`CaseMetric`. Defaults to None.
    """

    case_type = ScoredMap

    def __init__(self, reduction: MetricReduction | str = "mean", ignore_index: int | None = None) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)

    def score_case(self, case: ScoredMap) -> torch.Tensor:
        probabilities, mask = case.pixels
        error = np.abs(probabilities - mask)
        errors = error.mean(axis=(1, 2)) if case.overlapping else [error.mean()]
        return torch.as_tensor(errors, dtype=torch.float32, device=case.device)


def sod_metrics() -> Any:
    """The package pysodmetrics, which is optional."""
    module, found = optional_import("py_sod_metrics")
    if not found:
        raise ImportError(
            "S-, E- and F-measure need pysodmetrics; install it with pip install 'monai-sam2adapter[sod]'."
        )
    return module


def _step(measure: Any, pair: tuple[np.ndarray, np.ndarray]) -> Any:
    measure.step(*pair, normalize=False)
    return measure


def _at_thresholds(statistic: str, curve: np.ndarray, adaptive: float) -> float | np.ndarray:
    if statistic == "adaptive":
        return adaptive
    return curve.mean() if statistic == "mean" else curve


def _check(y_pred: torch.Tensor, y: torch.Tensor) -> None:
    if y_pred.shape != y.shape or y.ndim < 2:
        raise ValueError(
            f"expected probabilities and masks of one shape (K, *spatial), got {tuple(y_pred.shape)} and "
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
