# SPDX-License-Identifier: Apache-2.0
"""What each number of an evaluation means, by the name that bundles give it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["METRIC_PROTOCOLS", "MetricProtocol"]


@dataclass(frozen=True)
class MetricProtocol:
    """
    How a metric was computed, in words for a report.

    Args:
        title: for headings and axes, with the unit.
        text: definition, policy for absent structures and how it is averaged.
        larger_is_better: whether a larger value is a better one. Defaults to True.
    """

    title: str
    text: str
    larger_is_better: bool = True


_AVERAGE = (
    "One value for each case and class; class means over the cases that have a value (n), then their mean over the "
    "classes."
)
_OVERLAP_POLICY = "In neither prediction nor truth: no value. In only one of the two: 0."
_DISTANCE_POLICY = "In neither prediction nor truth: no value. In only one of the two: the diagonal of the image."
_HD95 = "95th percentile of the distances between the surfaces, in each direction; the larger of the two."
_ASD = "Average symmetric surface distance: mean over the surface voxels of prediction and truth together."
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

METRIC_PROTOCOLS: dict[str, MetricProtocol] = {
    "dice": MetricProtocol("Dice", f"Dice, 2|P and T| / (|P| + |T|). {_OVERLAP_POLICY} {_AVERAGE}"),
    "iou": MetricProtocol("IoU", f"Intersection over union, |P and T| / |P or T|. {_OVERLAP_POLICY} {_AVERAGE}"),
    "hd95_mm": MetricProtocol("HD95 (mm)", f"{_HD95} {_DISTANCE_POLICY} {_AVERAGE}", larger_is_better=False),
    "asd_mm": MetricProtocol("ASD (mm)", f"{_ASD} {_DISTANCE_POLICY} {_AVERAGE}", larger_is_better=False),
    "hd95_px": MetricProtocol(
        "HD95 (pixels)",
        f"{_HD95} In pixels of the image file. {_DISTANCE_POLICY} {_AVERAGE}",
        larger_is_better=False,
    ),
    "asd_px": MetricProtocol(
        "ASD (pixels)", f"{_ASD} In pixels of the image file. {_DISTANCE_POLICY} {_AVERAGE}", larger_is_better=False
    ),
    "dice_transunet": MetricProtocol(
        "Dice (TransUNet)",
        f"Dice by TransUNet's rule. Only predicted: 1. Not predicted: 0, also where the truth has none. {_TRANSUNET}",
    ),
    "hd95_transunet": MetricProtocol(
        "HD95 (TransUNet, voxels)",
        "95th percentile of the surface distances of both directions together, in voxels whatever their spacing, by "
        f"TransUNet's rule. Absent from prediction or truth: 0. {_TRANSUNET}",
        larger_is_better=False,
    ),
    "miou_pooled": MetricProtocol("Pooled mIoU", f"Intersection over union. {_POOLED}"),
    "dice_pooled": MetricProtocol("Pooled Dice", f"Dice. {_POOLED}"),
    "s_measure": MetricProtocol(
        "S-measure",
        "S-measure (Fan et al. 2017), likeness in structure, half by objects and half by regions. No object in the "
        f"truth: 1 - mean probability. {_MAP}",
    ),
    "e_mean": MetricProtocol("Mean E-measure", f"{_E} {_CURVE} mean over them."),
    "e_max": MetricProtocol("Max E-measure", f"{_E} {_CURVE} the one that is best for the whole set."),
    "e_adaptive": MetricProtocol("Adaptive E-measure", f"{_E} {_ADAPTIVE} one threshold for each case."),
    "f_weighted": MetricProtocol(
        "Weighted F-measure",
        f"Weighted F-measure (Margolin et al. 2014): errors count by where they are. No object in the truth: 0. {_MAP}",
    ),
    "f_mean": MetricProtocol("Mean F-measure", f"{_F} {_CURVE} mean over them."),
    "f_max": MetricProtocol("Max F-measure", f"{_F} {_CURVE} the one that is best for the whole set."),
    "f_adaptive": MetricProtocol("Adaptive F-measure", f"{_F} {_ADAPTIVE} one threshold for each case."),
    "mae": MetricProtocol("MAE", f"Mean absolute difference of probability and truth. {_MAP}", larger_is_better=False),
}
"""Protocols by the names of the metrics in the bundles' evaluators, which are also columns of the reports."""
