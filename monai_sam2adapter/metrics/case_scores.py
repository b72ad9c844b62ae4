# SPDX-License-Identifier: Apache-2.0
"""Scores of each case and class: Dice, IoU and surface distances, with a policy for absent structures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from monai.utils import MetricReduction, ensure_tuple, look_up_option

from .scored_case import ScoredCase

__all__ = [
    "CaseDiceMetric",
    "CaseDistanceScores",
    "CaseHausdorffDistanceMetric",
    "CaseIoUMetric",
    "CaseMetric",
    "CaseScores",
    "CaseSurfaceDistanceMetric",
]

_REDUCTIONS = (MetricReduction.MEAN, MetricReduction.MEAN_BATCH, MetricReduction.NONE)


class CaseMetric(CumulativeIterationMetric):
    """
    Base of all metrics here: what they keep of each case is reduced from one scoring of it, which several can share.

    Called with a batch or a list of cases, as MONAI's metrics are, it scores them by itself.
    :py:class:`monai_sam2adapter.handlers.CaseScoresHandler` scores each case once for all of its metrics.

    Args:
        ignore_index: what marks voxels that count nowhere, see :py:class:`ScoredCase`. Defaults to None: all count.
        overlapping: whether a voxel may have several classes, or none, see there. Defaults to False.
    """

    #: what is made of prediction and truth of a case, ``(C, *spatial)`` each, and given to ``score_case``
    case_type: type = ScoredCase

    def __init__(self, ignore_index: int | None = None, overlapping: bool = False) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.overlapping = overlapping

    @abstractmethod
    def score_case(self, case: Any) -> torch.Tensor:
        """
        Args:
            case: one case, a ``case_type``.

        Returns:
            what is kept of it: scores of the ``K`` scored classes, ``(K, ...)``.
        """

    def _compute_tensor(  # type: ignore[override]
        self, y_pred: torch.Tensor, y: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        """
        Args:
            y_pred: prediction, ``(B, C, *spatial)``.
            y: truth, of the same shape.
            kwargs: none are used; MONAI's signature.

        Returns:
            what is kept of each case, ``(B, ...)``.

        Raises:
            ValueError: when the two do not fit, see ``case_type``.
        """
        if len(y_pred) != len(y):
            raise ValueError(f"expected as many predictions as labels, got {len(y_pred)} and {len(y)}.")
        cases = [self.case_type(y_pred[n], y[n], self.ignore_index, self.overlapping) for n in range(len(y))]
        return torch.stack([self.score_case(case) for case in cases])

    def _scores(self) -> torch.Tensor:
        scores = self.get_buffer()
        if scores is None:
            raise RuntimeError(f"{type(self).__name__} has scored no case: call it with predictions and labels first.")
        return scores


class CaseScores(CaseMetric):
    """
    Base of the metrics that give one score for each case and class, NaN where there is nothing to score.

    Its reductions replace MONAI's, because those report 0 for a class that no case contains, and because MONAI's
    ``"mean"`` averages the classes of a case first, so that a class present in few cases weighs less than the others.
    Buffers and the gathering over processes stay MONAI's.

    With scores ``s[n, c]`` of case ``n`` and class ``c``, and every mean taken over the values that are not NaN:

    - ``"mean_batch"``: ``m[c]``, mean of ``s[n, c]`` over the cases; NaN for a class without a value.
    - ``"mean"``: mean of ``m[c]`` over the classes, one number; NaN when no class has a value.
    - ``"none"``: ``s`` itself.

    Args:
        include_background: whether channel 0 is scored. Defaults to False; a single channel is always scored.
        reduction: what :py:meth:`aggregate` returns: ``"mean"`` (one number, fit for a key metric), ``"mean_batch"``
            (one per class) or ``"none"``. Defaults to ``"mean"``.
        ignore_index: see :py:class:`CaseMetric`. Defaults to None.
        overlapping: see :py:class:`CaseMetric`; all channels are scored then. Defaults to False.
    """

    def __init__(
        self,
        include_background: bool = False,
        reduction: MetricReduction | str = "mean",
        ignore_index: int | None = None,
        overlapping: bool = False,
    ) -> None:
        super().__init__(ignore_index, overlapping)
        self.include_background = include_background
        self.reduction = reduction

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


class CaseDiceMetric(CaseScores):
    """
    Dice of each case and class, ``2 |P and T| / (|P| + |T|)``, with a fixed policy for absent structures.

    In neither prediction nor truth: NaN, counts in no mean. In only one of the two: 0. ``monai.metrics.DiceMetric``
    drops a case whose truth is empty even when the prediction is not, which hides false positives.

    Args:
        include_background: whether channel 0 is scored. Defaults to False; a single channel is always scored.
        reduction: see :py:class:`CaseScores`. Defaults to ``"mean"``.
        ignore_index: see :py:class:`CaseMetric`. Defaults to None.
        overlapping: see :py:class:`CaseScores`. Defaults to False.

    Example:
        >>> import torch
        >>> from monai_sam2adapter.metrics import CaseDiceMetric
        >>> metric = CaseDiceMetric()
        >>> truth = torch.tensor([[[0.0, 0.0, 1.0, 1.0]], [[1.0, 1.0, 0.0, 0.0]]]).reshape(1, 2, 4)
        >>> metric(y_pred=truth.flip(2), y=truth)
        tensor([[0.]])
    """

    def score_case(self, case: ScoredCase) -> torch.Tensor:
        common, pred, truth = case.counts(self.include_background)
        return 2 * common / (pred + truth)  # 0 / 0, of a structure in neither, is NaN


class CaseIoUMetric(CaseScores):
    """
    Intersection over union of each case and class, ``|P and T| / |P or T|``, with a fixed policy for absent structures.

    In neither prediction nor truth: NaN, counts in no mean. In only one of the two: 0.

    Args:
        include_background: whether channel 0 is scored. Defaults to False; a single channel is always scored.
        reduction: see :py:class:`CaseScores`. Defaults to ``"mean"``.
        ignore_index: see :py:class:`CaseMetric`. Defaults to None.
        overlapping: see :py:class:`CaseScores`. Defaults to False.
    """

    def score_case(self, case: ScoredCase) -> torch.Tensor:
        common, pred, truth = case.counts(self.include_background)
        return common / (pred + truth - common)


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
        reduction: see :py:class:`CaseScores`. Defaults to ``"mean"``.
        ignore_index: see :py:class:`CaseMetric`. Defaults to None.
    """

    def __init__(
        self,
        spacing: float | Sequence[float] | None = None,
        include_background: bool = False,
        reduction: MetricReduction | str = "mean",
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(include_background, reduction, ignore_index)
        self.spacing = spacing

    @abstractmethod
    def _distance(self, to_truth: torch.Tensor, to_pred: torch.Tensor) -> torch.Tensor:
        """One distance from those of all surface voxels of the prediction, and of the truth, ``(voxels,)``."""

    def _absent(self, in_one: bool, diagonal: float) -> float:
        """Score of a structure that is in only one of prediction and truth, or in neither."""
        return diagonal if in_one else float("nan")

    def score_case(self, case: ScoredCase) -> torch.Tensor:
        """
        Args:
            case: one case.

        Returns:
            distances in mm or NaN, ``(K,)``, K scored classes.

        Raises:
            ValueError: when there is no spacing.
        """
        spacing = self._spacing(case)
        diagonal = sum((size * step) ** 2 for size, step in zip(case.shape, spacing, strict=True)) ** 0.5
        _, *sizes = (count.tolist() for count in case.counts(self.include_background))
        scores = []
        for channel, in_pred, in_truth in zip(case.channels(self.include_background), *sizes, strict=True):
            if in_pred and in_truth:
                distances = map(torch.from_numpy, case.surface_distances(channel, spacing))
                scores.append(float(self._distance(*distances)))
            else:
                scores.append(self._absent(bool(in_pred or in_truth), diagonal))
        return torch.tensor(scores, device=case.device)

    def _spacing(self, case: ScoredCase) -> list[float]:
        n_axes = len(case.shape)
        if self.spacing is not None:
            steps = ensure_tuple(self.spacing)
            if len(steps) not in (1, n_axes):
                raise ValueError(f"spacing must be one number or {n_axes}, one for each spatial axis, got {steps}.")
            return [float(step) for step in steps] * (n_axes // len(steps))
        if case.spacing is None:
            raise ValueError(
                f"{type(self).__name__} needs the spacing of the voxels, but label and prediction are plain tensors; "
                "keep them MetaTensors (monai.data.set_track_meta(True)) or pass spacing=[...]."
            )
        return case.spacing


class CaseHausdorffDistanceMetric(CaseDistanceScores):
    """
    Hausdorff distance between the surfaces of each case and class, in mm; absent structures as in
    :py:class:`CaseDistanceScores`.

    The percentile is taken in each direction and the larger of the two is the result, as in MONAI.
    ``medpy.metric.binary.hd`` is the same for percentile 100. Its ``hd95`` takes the percentile of both directions
    together, which is mostly smaller; :py:class:`TransUNetHausdorffDistanceMetric` is that one.

    Args:
        percentile: percentile of the surface distances, 0 to 100; 100 is the maximum. Defaults to 95 (HD95).
        spacing: in mm, see :py:class:`CaseDistanceScores`. Defaults to None: that of the images.
        include_background: whether channel 0 is scored. Defaults to False; a single channel is always scored.
        reduction: see :py:class:`CaseScores`. Defaults to ``"mean"``.
        ignore_index: see :py:class:`CaseMetric`. Defaults to None.

    Raises:
        ValueError: when ``percentile`` is not above 0 and at most 100.
    """

    def __init__(
        self,
        percentile: float = 95,
        spacing: float | Sequence[float] | None = None,
        include_background: bool = False,
        reduction: MetricReduction | str = "mean",
        ignore_index: int | None = None,
    ) -> None:
        if not 0 < percentile <= 100:
            raise ValueError(f"percentile must be above 0 and at most 100, got {percentile}.")
        super().__init__(spacing, include_background, reduction, ignore_index)
        self.percentile = percentile

    def _distance(self, to_truth: torch.Tensor, to_pred: torch.Tensor) -> torch.Tensor:
        return torch.stack([distances.quantile(self.percentile / 100) for distances in (to_truth, to_pred)]).max()


class CaseSurfaceDistanceMetric(CaseDistanceScores):
    """
    Average symmetric surface distance of each case and class, in mm; absent structures as in
    :py:class:`CaseDistanceScores`.

    The mean over the surface voxels of prediction and truth together of the distance to the nearest surface voxel of
    the other, as in MONAI. ``medpy.metric.binary.assd`` of medpy 0.5.2 is the same, to the precision of float32; that
    of medpy 0.4 averages the means of the two directions.

    Args:
        spacing: in mm, see :py:class:`CaseDistanceScores`. Defaults to None: that of the images.
        include_background: whether channel 0 is scored. Defaults to False; a single channel is always scored.
        reduction: see :py:class:`CaseScores`. Defaults to ``"mean"``.
        ignore_index: see :py:class:`CaseMetric`. Defaults to None.
    """

    def _distance(self, to_truth: torch.Tensor, to_pred: torch.Tensor) -> torch.Tensor:
        return torch.cat([to_truth, to_pred]).mean()
