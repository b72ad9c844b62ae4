# SPDX-License-Identifier: Apache-2.0
"""The metrics of an evaluation by the names that bundles give them, and what each number means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ..utils.text import nearest_name
from .calibration import CaseCalibrationErrorMetric
from .case_scores import (
    CaseDiceMetric,
    CaseHausdorffDistanceMetric,
    CaseIoUMetric,
    CaseMetric,
    CaseSurfaceDistanceMetric,
)
from .fine_structures import CaseCenterlineDiceMetric, CaseComponentDiceMetric, CaseSurfaceDiceMetric
from .pooled import PooledDiceMetric, PooledIoUMetric
from .saliency import CaseEMeasureMetric, CaseFMeasureMetric, CaseMAEMetric, CaseSMeasureMetric, ScoredMap
from .transunet import TransUNetDiceMetric, TransUNetHausdorffDistanceMetric
from .volumes import CaseVolumeMetric

__all__ = ["METRIC_PROTOCOLS", "MetricProtocol", "create_metrics", "need_probabilities"]


@dataclass(frozen=True)
class MetricProtocol:
    """
    How a metric is computed, and in words for a report.

    Args:
        title: for headings and axes, with the unit.
        text: definition, policy for absent structures and how it is averaged.
        larger_is_better: whether a larger value is a better one. Defaults to True.
        create: makes the metric. Defaults to None: one that was computed elsewhere.
    """

    title: str
    text: str
    larger_is_better: bool = True
    create: Callable[..., CaseMetric] | None = None


_AVERAGE = (
    "One value for each case and class; class means over the cases that have a value (n), then their mean over the "
    "classes."
)
_OVERLAP_POLICY = "In neither prediction nor truth: no value. In only one of the two: 0."
_DISTANCE_POLICY = "In neither prediction nor truth: no value. In only one of the two: the diagonal of the image."
_HD95 = "95th percentile of the distances between the surfaces, in each direction; the larger of the two."
_ASD = "Average symmetric surface distance: mean over the surface voxels of prediction and truth together."
_VOLUME = "Number of voxels times their volume. Not there: 0 ml."
_TRANSUNET = (
    "Every case counts; mean over cases, then classes. For comparison with tables of the TransUNet family only."
)
_POOLED = (
    "One confusion matrix over the voxels of all cases, background counted as a class; mean over the classes that are "
    "in prediction or truth. Large cases weigh more. n: cases that contain the class in prediction or truth."
)
_MAP = "Of the probabilities, not of one segmentation. Every case counts: one value for each, then their mean."
_CURVE = f"{_MAP} Maps cut at 256 thresholds:"
_ADAPTIVE = f"{_MAP} Map cut at twice its mean:"
_E = "E-measure (Fan et al. 2018). No object in the truth: the part of the pixels that are not predicted."
_F = "F-measure, 1.3 P R / (0.3 P + R) of precision and recall. No object in the truth: 0."
_CALIBRATION = (
    "Calibration error: voxels in 20 bins by their probability of the class, in each the mean probability against the "
    f"part that is of the class (Guo et al. 2017, as MONAI has it). Every case counts. {_AVERAGE} Over the bins:"
)

METRIC_PROTOCOLS: dict[str, MetricProtocol] = {
    "dice": MetricProtocol(
        "Dice", f"Dice, 2|P and T| / (|P| + |T|). {_OVERLAP_POLICY} {_AVERAGE}", create=CaseDiceMetric
    ),
    "iou": MetricProtocol(
        "IoU", f"Intersection over union, |P and T| / |P or T|. {_OVERLAP_POLICY} {_AVERAGE}", create=CaseIoUMetric
    ),
    "hd95_mm": MetricProtocol(
        "HD95 (mm)", f"{_HD95} {_DISTANCE_POLICY} {_AVERAGE}", False, CaseHausdorffDistanceMetric
    ),
    "asd_mm": MetricProtocol("ASD (mm)", f"{_ASD} {_DISTANCE_POLICY} {_AVERAGE}", False, CaseSurfaceDistanceMetric),
    "hd95_px": MetricProtocol(
        "HD95 (pixels)",
        f"{_HD95} In pixels of the image file. {_DISTANCE_POLICY} {_AVERAGE}",
        False,
        partial(CaseHausdorffDistanceMetric, spacing=1),
    ),
    "asd_px": MetricProtocol(
        "ASD (pixels)",
        f"{_ASD} In pixels of the image file. {_DISTANCE_POLICY} {_AVERAGE}",
        False,
        partial(CaseSurfaceDistanceMetric, spacing=1),
    ),
    **{
        f"surface_dice_{tolerance}{unit}": MetricProtocol(
            f"Surface Dice at {tolerance} {name}",
            f"Part of the surfaces of prediction and truth that is within {tolerance} {name} of the other one. "
            f"{_OVERLAP_POLICY} {_AVERAGE}",
            create=partial(CaseSurfaceDiceMetric, tolerance, spacing),
        )
        for unit, name, spacing in (("mm", "mm", None), ("px", "pixels", 1))
        for tolerance in (1, 2, 3)
    },
    "cldice": MetricProtocol(
        "clDice",
        "Centerline Dice (Shit et al. 2021): harmonic mean of the part of the predicted skeleton in the truth and of "
        f"the true one in the prediction. {_OVERLAP_POLICY} {_AVERAGE}",
        create=CaseCenterlineDiceMetric,
    ),
    "component_dice": MetricProtocol(
        "Dice of components",
        "Dice of each connected component of the truth among the voxels that are nearest to it; their mean for each "
        f"case and class. {_OVERLAP_POLICY} {_AVERAGE}",
        create=CaseComponentDiceMetric,
    ),
    "volume_predicted_ml": MetricProtocol(
        "Predicted volume (ml)", f"{_VOLUME} {_AVERAGE}", create=partial(CaseVolumeMetric, "prediction")
    ),
    "volume_true_ml": MetricProtocol(
        "True volume (ml)", f"{_VOLUME} {_AVERAGE}", create=partial(CaseVolumeMetric, "truth")
    ),
    "volume_difference_ml": MetricProtocol(
        "Volume difference (ml)",
        f"Absolute difference of predicted and true volume. In neither prediction nor truth: no value. {_AVERAGE}",
        False,
        partial(CaseVolumeMetric, "difference"),
    ),
    "volume_error_ml": MetricProtocol(
        "Volume error (ml)",
        "Predicted minus true volume; the mean is the bias. In neither prediction nor truth: no value. Not there: "
        f"0 ml. {_AVERAGE}",
        create=partial(CaseVolumeMetric, "error"),
    ),
    "volume_error_percent": MetricProtocol(
        "Volume error (%)",
        f"Predicted minus true volume, in percent of the true one. Not in the truth: no value. {_AVERAGE}",
        create=partial(CaseVolumeMetric, "percent"),
    ),
    "dice_transunet": MetricProtocol(
        "Dice (TransUNet)",
        f"Dice by TransUNet's rule. Only predicted: 1. Not predicted: 0, also where the truth has none. {_TRANSUNET}",
        create=TransUNetDiceMetric,
    ),
    "hd95_transunet": MetricProtocol(
        "HD95 (TransUNet, voxels)",
        "95th percentile of the surface distances of both directions together, in voxels whatever their spacing, by "
        f"TransUNet's rule. Absent from prediction or truth: 0. {_TRANSUNET}",
        False,
        TransUNetHausdorffDistanceMetric,
    ),
    "miou_pooled": MetricProtocol("Pooled mIoU", f"Intersection over union. {_POOLED}", create=PooledIoUMetric),
    "dice_pooled": MetricProtocol("Pooled Dice", f"Dice. {_POOLED}", create=PooledDiceMetric),
    "s_measure": MetricProtocol(
        "S-measure",
        "S-measure (Fan et al. 2017), likeness in structure, half by objects and half by regions. No object in the "
        f"truth: 1 - mean probability. {_MAP}",
        create=CaseSMeasureMetric,
    ),
    "e_mean": MetricProtocol(
        "Mean E-measure", f"{_E} {_CURVE} mean over them.", create=partial(CaseEMeasureMetric, "mean")
    ),
    "e_max": MetricProtocol(
        "Max E-measure",
        f"{_E} {_CURVE} the one that is best for the whole set.",
        create=partial(CaseEMeasureMetric, "max"),
    ),
    "e_adaptive": MetricProtocol(
        "Adaptive E-measure",
        f"{_E} {_ADAPTIVE} one threshold for each case.",
        create=partial(CaseEMeasureMetric, "adaptive"),
    ),
    "f_weighted": MetricProtocol(
        "Weighted F-measure",
        f"Weighted F-measure (Margolin et al. 2014): errors count by where they are. No object in the truth: 0. {_MAP}",
        create=CaseFMeasureMetric,
    ),
    "f_mean": MetricProtocol(
        "Mean F-measure", f"{_F} {_CURVE} mean over them.", create=partial(CaseFMeasureMetric, "mean")
    ),
    "f_max": MetricProtocol(
        "Max F-measure",
        f"{_F} {_CURVE} the one that is best for the whole set.",
        create=partial(CaseFMeasureMetric, "max"),
    ),
    "f_adaptive": MetricProtocol(
        "Adaptive F-measure",
        f"{_F} {_ADAPTIVE} one threshold for each case.",
        create=partial(CaseFMeasureMetric, "adaptive"),
    ),
    "mae": MetricProtocol("MAE", f"Mean absolute difference of probability and truth. {_MAP}", False, CaseMAEMetric),
    "ece": MetricProtocol(
        "ECE", f"{_CALIBRATION} weighed by their number of voxels.", False, CaseCalibrationErrorMetric
    ),
    "ace": MetricProtocol(
        "ACE",
        f"{_CALIBRATION} the mean of those that hold a voxel.",
        False,
        partial(CaseCalibrationErrorMetric, "average"),
    ),
    "mce": MetricProtocol(
        "MCE", f"{_CALIBRATION} the largest error.", False, partial(CaseCalibrationErrorMetric, "maximum")
    ),
}
"""Metrics by their names in the bundles' evaluate.json, which are also columns of the reports; a new one goes here."""


def create_metrics(
    names: Sequence[str], ignore_index: int | None = None, overlapping: bool = False
) -> dict[str, CaseMetric]:
    """
    Args:
        names: of metrics, keys of :py:data:`METRIC_PROTOCOLS`.
        ignore_index: see :py:class:`CaseMetric`. Defaults to None.
        overlapping: see :py:class:`CaseMetric`. Defaults to False.

    Returns:
        new metrics by their names.

    Raises:
        ValueError: when there is no name, one twice, or one without such a metric.
    """
    if not names or len(set(names)) < len(names):
        raise ValueError(f"metrics must be a list of different names, got {list(names)}.")
    known = {name: protocol.create for name, protocol in METRIC_PROTOCOLS.items() if protocol.create is not None}
    metrics = {}
    for name in names:
        create = known.get(name)
        if create is None:
            raise ValueError(f"there is no metric {name!r}; {nearest_name(name, known)}")
        metrics[name] = create(ignore_index=ignore_index)
        metrics[name].overlapping = overlapping
    return metrics


def need_probabilities(names: Sequence[str]) -> bool:
    """
    Args:
        names: of metrics, keys of :py:data:`METRIC_PROTOCOLS`.

    Returns:
        whether one of them scores probabilities, which are kept only then: they take 4 bytes a voxel and class.

    Raises:
        ValueError: as :py:func:`create_metrics`.
    """
    return any(metric.case_type is ScoredMap for metric in create_metrics(names).values())
