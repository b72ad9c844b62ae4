# SPDX-License-Identifier: Apache-2.0
"""What Auto3DSeg knows of the data, in the words of the bundle for one's own volumes."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from monai.auto3dseg.utils import datafold_read
from monai.bundle import ConfigParser

__all__ = ["bundle_datalist", "image_size_of"]

_SMALLEST, _LARGEST, _MULTIPLE = 224, 512, 32  # sides in pixels: the bundle's default, a bound for memory, the trunk's


def image_size_of(stats: Mapping[str, Any]) -> int:
    """
    Choose the size of the network's images: the larger side of the median slice, which lies across the largest spacing.

    Args:
        stats: the summary of MONAI's ``DataAnalyzer``.

    Returns:
        the side in pixels, a multiple of 32 from 224 to 512.

    Raises:
        ValueError: when the data are pictures.
    """
    shape, spacing = (stats["image_stats"][key]["median"] for key in ("shape", "spacing"))
    if len(shape) != 3:
        raise ValueError(
            f"the images have {len(shape)} dimensions, expected volumes of 3; train on pictures with the bundle "
            "picture_segmentation"
        )
    axis = max(range(3), key=lambda axis: (round(spacing[axis], 3), axis))
    side = max(size for number, size in enumerate(shape) if number != axis)
    return max(_SMALLEST, min(_LARGEST, math.ceil(side / _MULTIPLE) * _MULTIPLE))


def bundle_datalist(source: Mapping[str, Any], stats: Mapping[str, Any], ignore_label: int | None) -> dict[str, Any]:
    """
    Make the bundle's datalist of Auto3DSeg's.

    Args:
        source: Auto3DSeg's input: ``datalist``, ``dataroot``, ``modality``, and ``class_names`` if they are given.
        stats: the summary of MONAI's ``DataAnalyzer``.
        ignore_label: value of voxels that do not count, or None.

    Returns:
        all cases for training with absolute paths and numbers of folds; names of classes; names of channels, which are
        the modality unless the datalist itself has some.

    Raises:
        ValueError: when classes are regions of several labels, or overlap (``sigmoid``), or there are more labels in
            the data than names.
    """
    if source.get("sigmoid"):
        raise ValueError(
            "the input has sigmoid: true, for classes that overlap; expected classes that exclude each other: leave it "
            "out, or take another algorithm"
        )
    listed = ConfigParser.load_config_file(source["datalist"])
    content: dict[str, Any] = {key: listed[key] for key in ("labels", "channel_names", "modality") if key in listed}
    if source.get("class_names"):
        labels = {int(label) for label in stats["label_stats"]["labels"]} - {ignore_label}
        content["labels"] = _labels(source["class_names"], labels)
    if not {"channel_names", "modality"} & content.keys():
        channels = range(int(stats["image_stats"]["channels"]["max"]))
        content["channel_names"] = {str(number): str(source["modality"]) for number in channels}
    content["training"], _ = datafold_read(listed, os.path.abspath(source["dataroot"]), fold=-1)
    return content


def _labels(class_names: list[Any], labels: set[int]) -> dict[str, int]:
    """The labels by name, of names without or with the background, or of names and their labels."""
    first = class_names[0]
    start = 0 if isinstance(first, str) and first.lower() == "background" else 1
    named = dict(_name_and_label(entry, number) for number, entry in enumerate(class_names, start))
    named = named if 0 in named.values() else {"background": 0, **named}
    if sorted(named.values()) != list(range(len(named))) or max(labels) >= len(named):
        raise ValueError(
            f"the input has the class_names {class_names}, but the labels in the data are {sorted(labels)}; expected "
            "one name for each label from 1 on"
        )
    return named


def _name_and_label(entry: Any, number: int) -> tuple[str, int]:
    if not isinstance(entry, Mapping):
        return str(entry), number
    index = entry["index"] if isinstance(entry["index"], list) else [entry["index"]]
    if len(index) != 1:
        raise ValueError(
            f"the input's class {entry['name']!r} is a region of the labels {index}; expected one label a class: name "
            "the labels themselves, or take another algorithm"
        )
    return str(entry["name"]), int(index[0])
