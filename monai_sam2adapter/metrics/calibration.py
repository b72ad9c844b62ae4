# SPDX-License-Identifier: Apache-2.0
"""Calibration error of each case and class: whether probabilities are as often right as they say."""

from __future__ import annotations

import torch
from monai.metrics.calibration import CalibrationReduction
from monai.utils import MetricReduction, look_up_option

from .case_scores import CaseScores
from .saliency import ScoredMap

__all__ = ["CaseCalibrationErrorMetric"]

# voxels binned at a time: bounds memory
_PART = 2**20


class CaseCalibrationErrorMetric(CaseScores):
    """
    Calibration error of each case and class: ``monai.metrics.CalibrationErrorMetric``, exact for any number of voxels.

    The voxels are put in bins by their probability of the class. In each bin the mean probability is compared with the
    part of the voxels that are of the class. Every case has a value, also for a class that it lacks.

    MONAI's metric needs some 30 bytes for each voxel at a time, and adds up in float32: a million voxels at 0.93 have
    a mean of 0.936 there, and its counts end at 16.8 million in a bin, fewer than a CT has. Here a volume is taken in
    parts, which bounds the memory, and added up in float64.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    Args:
        calibration_reduction: how the bins are put together, as MONAI has it: ``"expected"`` (by their number of
            voxels), ``"average"`` (each bin with voxels the same) or ``"maximum"``. Defaults to ``"expected"``.
        num_bins: number of bins of equal width from 0 to 1. Defaults to 20.
        include_background: whether channel 0 is scored. Defaults to False; a single channel is always scored.
        reduction: see :py:class:`CaseScores`. Defaults to ``"mean"``.
        ignore_index: see :py:class:`CaseMetric`. Defaults to None.

    Raises:
        ValueError: when ``calibration_reduction`` is none of the three, or ``num_bins`` is not positive.
    """

    case_type = ScoredMap

    def __init__(
        self,
        calibration_reduction: CalibrationReduction | str = "expected",
        num_bins: int = 20,
        include_background: bool = False,
        reduction: MetricReduction | str = "mean",
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(include_background, reduction, ignore_index)
        if num_bins < 1:
            raise ValueError(f"num_bins must be at least 1, got {num_bins}.")
        self.calibration_reduction = look_up_option(calibration_reduction, CalibrationReduction)
        self.num_bins = num_bins

    def score_case(self, case: ScoredMap) -> torch.Tensor:
        """
        Args:
            case: one case, probabilities ``(C, *spatial)``.

        Returns:
            errors from 0 to 1, NaN where no voxel counts, ``(K,)``, K scored classes.
        """
        first = 0 if self.include_background or case.overlapping or len(case.truth) == 1 else 1
        pairs = zip(case.probabilities[first:], case.truth[first:], strict=True)
        return torch.stack([self._error(*pair, case.counted) for pair in pairs])

    def _error(self, probabilities: torch.Tensor, truth: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        sums = torch.zeros(3, self.num_bins, dtype=torch.float64, device=truth.device)
        voxels = (values.flatten().split(_PART) for values in (probabilities, truth, counted))
        ends = torch.linspace(0, 1 + torch.finfo(torch.float32).eps, self.num_bins + 1, device=truth.device)[1:]
        for values, labels, counts in zip(*voxels, strict=True):
            values, labels = values[counts].float(), labels[counts]
            bins = torch.bucketize(values, ends).clamp(max=self.num_bins - 1)
            for row, weights in enumerate((values, labels, torch.ones_like(values))):
                sums[row] += torch.bincount(bins, weights.double(), self.num_bins)
        size = sums[2]
        errors = (sums[0] - sums[1]).abs() / size  # NaN in empty bins
        if self.calibration_reduction == CalibrationReduction.EXPECTED:
            return ((errors * size).nansum() / size.sum()).float()
        if self.calibration_reduction == CalibrationReduction.AVERAGE:
            return errors.nanmean().float()
        return errors[size > 0].max().float() if size.any() else errors.mean().float()
