# SPDX-License-Identifier: Apache-2.0
"""What a network has to know of anyone's data: classes, channels, normalization and the axis of the slices."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.utils import ensure_tuple_rep, look_up_option
from tqdm import tqdm

from ...utils.logs import escaping_logger
from ..geometry import voxel_spacing
from ..orientation import choose_orientation
from ..pixel_values import is_ct
from .case_files import files_of, path_of
from .kept_description import DESCRIPTION_FILE, kept_description
from .labels import (
    ColorsOfLabels,
    DepthsOfPictures,
    count_labels,
    find_classes,
    read_picture,
    read_volume,
    to_classes,
    warn_of_units,
)
from .layouts import LABEL_TYPES, LAYOUTS, LabeledCases, find_labeled_cases
from .overlapping import count_masks, find_overlapping_classes, read_masks
from .own_data import picture_datalist, volume_datalist

__all__ = ["describe_pictures", "describe_volumes"]

logger = escaping_logger(__name__)

# of ImageNet, for values of 0 to 255
_IMAGENET = [{"mean": mean, "std": std} for mean, std in ((123.675, 58.395), (116.28, 57.12), (103.53, 57.375))]
# of foreground voxels that percentiles are taken of, over all cases; of each case every n-th, where there are more
_MOST_VOXELS = 10_000_000
_SLICES_BY = {"orientation": "the orientation", "spacing": "the spacing", "both": "the orientation and the spacing"}


def describe_volumes(
    dataset_dir: str | os.PathLike[str] | None,
    fold: int = 0,
    split_file: str | os.PathLike[str] | None = None,
    modality: str | Sequence[str] | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    default: Mapping[str, Any] | None = None,
    progress: bool = True,
    ignore_label: int | None = None,
    label_pattern: str = "*",
    label_type: str = LABEL_TYPES[0],
) -> dict[str, Any]:
    """
    Choose from the training cases how volumes are read, normalized and cut.

    - Normalization, as nnU-Net chooses it: a channel of CT is clipped to the percentiles 0.5 and 99.5 of the foreground
      voxels of all training cases, then normalized by their mean and standard deviation; any other channel is
      normalized to mean 0 and standard deviation 1 in each volume by itself.
    - Slices are cut along the direction of the patient in which the spacing is the largest, in the median; that of the
      last axis where all are within 5 %. See :py:func:`monai_sam2adapter.data.choose_orientation`.

    Source: Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation",
    arXiv:1904.08128 (normalization, and the plane of the 2D network). Differs in: percentiles of at most 10 million
    voxels, evenly taken.

    Args:
        dataset_dir: as in ``volume_datalist``; None for the default.
        fold: as in ``volume_datalist``. Defaults to 0.
        split_file: as in ``volume_datalist``. Defaults to None.
        modality: what the channels are, such as "CT", or a list with one for each. Defaults to None: as the data say,
            and nothing that is CT where they do not.
        output_dir: where an earlier run has kept its description, whose figures are taken when the training cases are
            the same files. Defaults to None.
        default: what to return without a ``dataset_dir``, so that a network can be built without data. Defaults to
            None: that is an error.
        progress: whether to show progress bars. Defaults to True.
        ignore_label: value of voxels that do not count. Defaults to None: all count.
        label_pattern: as in ``volume_datalist``. Defaults to "*".
        label_type: "exclusive" or "overlapping", see :py:func:`find_labeled_cases`. Defaults to "exclusive".

    Returns:
        ``class_names``; ``channel_names`` and ``num_channels``; ``normalization``, for each channel ``lower``,
        ``upper``, ``mean`` and ``std`` as :py:class:`monai_sam2adapter.transforms.NormalizeChannelsd` takes them;
        ``orientation`` and ``slices_by`` as :py:class:`monai_sam2adapter.transforms.OrientSlicesd` takes them, and
        ``slice_axis``, -1; and ``fingerprint``, with the number of training ``cases``, ``class_voxels`` by name and the
        median ``spacing`` (mm) and ``size`` (voxels) in that orientation.

    Raises:
        FileNotFoundError: as in ``volume_datalist``.
        ValueError: as in ``volume_datalist``, when a file cannot be read, labels do not fit, or no training case of CT
            has foreground.
    """
    if dataset_dir is None:
        return _default_of(default)
    cases = volume_datalist(dataset_dir, "train", fold, split_file, label_pattern, label_type)
    found = _find(dataset_dir, "volume", ignore_label, label_pattern, label_type)
    number = len(read_volume(cases[0]["image"], len(found.channel_names) if found.channel_names else None)[0])
    channel_names = list(found.channel_names or (f"channel {index}" for index in range(number)))
    if modality is not None:
        channel_names = list(ensure_tuple_rep(modality, number))
    are_ct = list(map(is_ct, channel_names))
    key = _key(cases, found.class_names, are_ct, ignore_label, "orientation", *_label_form(found).items())
    fingerprint = _kept_fingerprint(output_dir, key)
    if fingerprint is None:
        fingerprint = {**_measure_volumes(cases, found, are_ct, progress, ignore_label), "key": key}
    return _described(
        {
            "class_names": list(fingerprint["class_voxels"]),
            "channel_names": channel_names,
            "num_channels": len(channel_names),
            "normalization": fingerprint["foreground"],
            "orientation": fingerprint["orientation"],
            "slices_by": fingerprint["slices_by"],
            "slice_axis": -1,
            **_label_form(found),
            "fingerprint": fingerprint,
        }
    )


def describe_pictures(
    dataset_dir: str | os.PathLike[str] | None,
    fold: int = 0,
    split_file: str | os.PathLike[str] | None = None,
    modality: str | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    default: Mapping[str, Any] | None = None,
    progress: bool = True,
    ignore_label: int | None = None,
    label_pattern: str = "*",
    label_type: str = LABEL_TYPES[0],
) -> dict[str, Any]:
    """
    Choose from the training pictures how pictures are read and normalized.

    Where any of them has colors, all are read as RGB of 8 bits and normalized by mean and standard deviation of
    ImageNet, which SAM 2 was trained with; where all are gray, each is normalized to mean 0 and standard deviation 1 by
    itself, whatever its depth.

    Args:
        dataset_dir: as in ``picture_datalist``; None for the default.
        fold: as in ``picture_datalist``. Defaults to 0.
        split_file: as in ``picture_datalist``. Defaults to None.
        modality: "RGB" or "gray". Defaults to None: by the pictures.
        output_dir: as in ``describe_volumes``. Defaults to None.
        default: as in ``describe_volumes``. Defaults to None.
        progress: whether to show progress bars. Defaults to True.
        ignore_label: as in ``describe_volumes``. Defaults to None.
        label_pattern: as in ``volume_datalist``. Defaults to "*".
        label_type: "exclusive" or "overlapping", see :py:func:`find_labeled_cases`. Defaults to "exclusive".

    Returns:
        as from ``describe_volumes``, with ``black_and_white``, whether masks are of 0 and 255 and not of class numbers,
        in place of ``slice_axis``, and without a spacing.

    Raises:
        FileNotFoundError: as in ``picture_datalist``.
        ValueError: as in ``picture_datalist``, when a file cannot be read, or masks do not fit.
    """
    if dataset_dir is None:
        return _default_of(default)
    if modality is not None:
        look_up_option(modality, ("RGB", "gray"))
    cases = picture_datalist(dataset_dir, "train", fold, split_file, label_pattern, label_type)
    found = _find(dataset_dir, "picture", ignore_label, label_pattern, label_type)
    key = _key(cases, found.class_names, ignore_label, *_label_form(found).items())
    fingerprint = _kept_fingerprint(output_dir, key)
    if fingerprint is None:
        fingerprint = {**_measure_pictures(cases, found, progress, ignore_label), "key": key}
    is_rgb = fingerprint["has_colors"] if modality is None else modality == "RGB"
    return _described(
        {
            "class_names": list(fingerprint["class_voxels"]),
            "channel_names": ["red", "green", "blue"] if is_rgb else ["gray"],
            "num_channels": 3 if is_rgb else 1,
            "normalization": _IMAGENET if is_rgb else [{}],
            "black_and_white": fingerprint["black_and_white"],
            **_label_form(found),
            "fingerprint": fingerprint,
        }
    )


def _default_of(default: Mapping[str, Any] | None) -> dict[str, Any]:
    if default is None:
        raise ValueError(f"there is no dataset_dir; expected {LAYOUTS}")
    return dict(default)


def _find(
    dataset_dir: str | os.PathLike[str], kind: str, ignore_label: int | None, label_pattern: str, label_type: str
) -> LabeledCases:
    """All cases, whose label to ignore is the one that was asked for; overlapping classes have names."""
    found = find_labeled_cases(dataset_dir, kind, label_pattern, label_type)
    if found.ignore_label is not None and ignore_label != found.ignore_label:
        raise ValueError(
            f"{found.file} has a label 'ignore', {found.ignore_label}, but ignore_label is {ignore_label}; give "
            f"--ignore_label {found.ignore_label}, so that it counts in no loss and no metric"
        )
    if label_type == "overlapping":
        found.class_names = find_overlapping_classes(found, kind)
    return found


def _classes(found: LabeledCases, kind: str, progress: bool, ignore_label: int | None) -> tuple[tuple[str, ...], bool]:
    """Names of the classes, and whether masks are black and white in the place of class numbers."""
    if found.label_type == "overlapping":
        return found.class_names or (), False
    return find_classes(found, kind, progress, ignore_label)


def _label_form(found: LabeledCases) -> dict[str, Any]:
    """What inference must know of overlapping labels; nothing of others."""
    if found.label_type == "exclusive":
        return {}
    regions = {} if found.regions is None else {"regions": [list(region) for region in found.regions]}
    order = {"regions_class_order": list(found.region_order)} if found.region_order else {}
    return {"label_type": found.label_type, **regions, **order}


def _measure_volumes(
    cases: Sequence[Mapping[str, Any]],
    found: LabeledCases,
    are_ct: Sequence[bool],
    progress: bool,
    ignore_label: int | None,
) -> dict[str, Any]:
    class_names, _ = _classes(found, "volume", progress, ignore_label)
    counts, total = np.zeros(len(class_names), dtype=np.int64), 0
    shapes, volumes = [], []
    foreground: list[list[np.ndarray]] = [[] for _ in are_ct]
    for case in tqdm(cases, desc="Describing volumes", unit="volume", disable=not progress):
        if found.label_type == "overlapping":
            labels, axes = read_masks(case, "volume", found, ignore_label)
            counts += count_masks(labels)
        else:
            labels, axes = read_volume(case["label"], 1)
            counted = to_classes(labels, case["label"], False, ignore_label)
            counts += count_labels(counted, case["label"], len(class_names))
        total += int((labels[0] != ignore_label).sum())
        shapes.append(labels.shape[1:])
        volumes.append(axes)
        if any(are_ct):
            image = read_volume(case["image"], len(are_ct))[0]
            if image.shape[1:] != labels.shape[1:]:
                raise ValueError(
                    f"{files_of(case['label'])[0]} has the shape {labels.shape[1:]}, its image {image.shape[1:]}"
                )
            warn_of_units(case["image"], image, are_ct)
            inside = (labels.max(axis=0) > 0) & (labels[0] != ignore_label)
            step = max(1, int(np.ceil(inside.sum() * len(cases) / _MOST_VOXELS)))
            for values, channel, wanted in zip(foreground, image, are_ct, strict=True):
                values += [channel[inside][::step].astype(np.float32)] if wanted else []
    orientation, slices_by = choose_orientation(volumes)
    turned = [np.argsort(volume.orient(orientation, slices_by)[0][:, 0]) for volume in volumes]
    spacings = [np.take(voxel_spacing(volume.affine), order) for volume, order in zip(volumes, turned, strict=True)]
    sizes = [np.take(shape, order) for shape, order in zip(shapes, turned, strict=True)]
    return {
        "cases": len(cases),
        "class_voxels": dict(zip(class_names, counts.tolist(), strict=True)),
        **({"voxels": total} if found.label_type == "overlapping" else {}),
        "orientation": orientation,
        "slices_by": slices_by,
        "spacing": np.median(spacings, axis=0).round(6).tolist(),
        "size": np.median(sizes, axis=0).tolist(),
        "foreground": [_percentiles(values) if values else {} for values in foreground],
    }


def _percentiles(values: Sequence[np.ndarray]) -> dict[str, float]:
    """What a channel of CT is clipped to and normalized by."""
    voxels = np.concatenate(values)
    if not voxels.size or not np.isfinite(voxels).all():
        raise ValueError("the training cases of CT have no foreground, or values that are not finite; check the data")
    lower, upper = np.percentile(voxels, (0.5, 99.5))
    if lower == upper:
        raise ValueError(f"the foreground of all training cases of CT is the one value {lower:g}; check the data")
    mean, std = voxels.mean(dtype=np.float64), voxels.std(dtype=np.float64)
    return {"lower": float(lower), "upper": float(upper), "mean": float(mean), "std": float(std)}


def _measure_pictures(
    cases: Sequence[Mapping[str, Any]], found: LabeledCases, progress: bool, ignore_label: int | None
) -> dict[str, Any]:
    class_names, black_and_white = _classes(found, "picture", progress, ignore_label)
    counts, total = np.zeros(len(class_names), dtype=np.int64), 0
    sizes, depths, colors = [], DepthsOfPictures(), ColorsOfLabels()
    for case in tqdm(cases, desc="Describing pictures", unit="picture", disable=not progress):
        image, label = read_picture(case["image"]), case["label"]
        depths.add(case["image"], image)
        if found.label_type == "overlapping":
            mask, _ = read_masks(case, "picture", found, ignore_label)
            counts += count_masks(mask)
        else:
            mask = read_picture(label, labels=True)
            counts += count_labels(to_classes(mask, label, black_and_white, ignore_label), label, len(class_names))
            colors.add(label, mask)
        total += int((mask[0] != ignore_label).sum())
        sizes.append(image.shape[:0:-1])
    return {
        "cases": len(cases),
        "class_voxels": dict(zip(class_names, counts.tolist(), strict=True)),
        **({"voxels": total} if found.label_type == "overlapping" else {}),
        "size": np.median(sizes, axis=0).tolist(),
        "has_colors": depths.has_colors,
        "black_and_white": black_and_white,
    }


def _kept_fingerprint(output_dir: str | os.PathLike[str] | None, key: str) -> dict[str, Any] | None:
    kept = None if output_dir is None else kept_description(Path(output_dir) / DESCRIPTION_FILE)
    fingerprint = (kept or {}).get("fingerprint")
    return fingerprint if isinstance(fingerprint, dict) and fingerprint.get("key") == key else None


def _key(cases: Sequence[Mapping[str, Any]], *measured: Any) -> str:
    """Changes with what is measured and with the files, by name, size and time."""
    key = hashlib.sha256(repr(measured).encode())
    for case in cases:
        for file in (*files_of(case["image"]), *files_of(case["label"])):
            status = path_of(file).stat()
            key.update(f"{file} {status.st_size} {status.st_mtime_ns}\n".encode())
    return key.hexdigest()


def _described(description: dict[str, Any]) -> dict[str, Any]:
    """Log a description."""
    fingerprint = description["fingerprint"]
    # of overlapping classes more than there are voxels, or fewer
    total = max(1, fingerprint.get("voxels") or sum(fingerprint["class_voxels"].values()))
    lines = [f"{fingerprint['cases']} training cases, median size {fingerprint['size']}"]
    for number, (name, count) in enumerate(fingerprint["class_voxels"].items()):
        lines.append(f"  class {number} {name}: {100 * count / total:.2f} %" + ("" if count else ", IN NO CASE"))
    for name, channel in zip(description["channel_names"], description["normalization"], strict=True):
        lines.append(f"  {name}: {_in_words(channel)}")
    if "orientation" in description:
        lines.append(
            f"  turned to {description['orientation']}, slices along the last axis, which is told by "
            f"{_SLICES_BY[description['slices_by']]}; median spacing {fingerprint['spacing']} mm"
        )
    logger.info("\n".join(lines))
    return description


def _in_words(channel: Mapping[str, float]) -> str:
    if not channel:
        return "mean 0 and standard deviation 1 in each image"
    clip = f"clipped to {channel['lower']:g} to {channel['upper']:g}, then " if "lower" in channel else ""
    return f"{clip}minus {channel['mean']:g}, by {channel['std']:g}"
