# SPDX-License-Identifier: Apache-2.0
"""Volume of each structure, as a clinic asks for it."""

from __future__ import annotations

import math

import torch
from monai.utils import MetricReduction, look_up_option

from .case_scores import CaseScores
from .scored_case import ScoredCase

__all__ = ["CaseVolumeMetric"]

_OF = ("prediction", "truth", "difference", "error", "percent")
_MM3_IN_ML = 1000


class CaseVolumeMetric(CaseScores):
    """
    Volume of each case and class in ml: that of the prediction ``P``, that of the truth ``T``, or how the two differ.

    A structure that is not there has the volume 0. A difference of one that is in neither prediction nor truth is NaN,
    and counts in no mean. Ignored voxels belong to no structure.

    Args:
        of: "prediction", "truth", "difference" (``|P - T|``), "error" (``P - T``, whose mean is the bias) or "percent"
            (``100 (P - T) / T``, the relative volume difference; NaN where the truth has no such structure). Defaults
            to "difference".
        include_background: whether channel 0 is scored. Defaults to False; a single channel is always scored.
        reduction: see :py:class:`CaseScores`. Defaults to ``"mean"``.
        ignore_index: see :py:class:`CaseMetric`. Defaults to None.

    Raises:
        ValueError: when ``of`` is none of these.
    """

    def __init__(
        self,
        of: str = "difference",
        include_background: bool = False,
        reduction: MetricReduction | str = "mean",
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(include_background, reduction, ignore_index)
        self.of = look_up_option(of, _OF)

    def score_case(self, case: ScoredCase) -> torch.Tensor:
        """
        Args:
            case: one case.

        Returns:
            volumes in ml, or percent, or NaN, ``(K,)``, K scored classes.

        Raises:
            ValueError: when the case has not three axes with a spacing.
        """
        if case.spacing is None or len(case.shape) != 3:
            raise ValueError(
                f"a volume in ml needs three axes with a spacing, got an image of {case.shape} with spacing "
                f"{case.spacing}; leave this metric out for pictures, and keep labels MetaTensors."
            )
        _, pred, truth = case.counts(self.include_background)
        voxel = math.prod(case.spacing) / _MM3_IN_ML
        if self.of in ("prediction", "truth"):
            return (pred if self.of == "prediction" else truth) * voxel
        if self.of == "percent":
            return torch.where(truth > 0, 100 * (pred - truth) / truth, torch.nan)
        error = torch.where(pred + truth > 0, (pred - truth) * voxel, torch.nan)
        return error.abs() if self.of == "difference" else error
