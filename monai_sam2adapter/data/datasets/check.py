# SPDX-License-Identifier: Apache-2.0
"""Reading volumes and their labels, and pictures and their masks, to find what is wrong with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from tqdm import tqdm

from ..geometry import place_problem, shape_problem
from ..orientation import VolumeAxes
from ..pixel_values import counted_values, gray_mask_problem, has_colors, hounsfield_problem, is_jpeg
from ..readers import ImageFileReader, VolumeReader
from .report import DatasetReport

__all__ = ["check_image_and_label", "check_images_and_masks"]


def check_image_and_label(image: str, label: str, report: DatasetReport, hounsfield: bool = False) -> tuple[int, ...]:
    """
    Read a volume and its mask, and write down in the report what they hold and what is wrong with them.

    ``VolumeReader`` reads them, as for training.

    Args:
        image: path of the volume; empty when there is none.
        label: path of the mask; empty when there is none.
        report: where to write.
        hounsfield: whether the volume must be a CT in Hounsfield units, with air and bone in it, as integers. Defaults
            to False.

    Returns:
        shape of the volume, empty when it cannot be read.
    """
    image_volume, label_volume = (_read_volume(path, report) for path in (image, label))
    if image_volume is not None:
        report.shapes.append(image_volume[0].shape)
        report.axes[image] = image_volume[1]
        problems = [*_volume_problems(image_volume[0], hounsfield), *report.copy_problems(image, image_volume[:1])]
        report.problems += [f"{image}: {problem}" for problem in problems]
    if label_volume is not None:
        report.problems += [f"{label}: {problem}" for problem in _label_problems(label_volume[0], report)]
    if image_volume is not None and label_volume is not None:
        report.problems += [f"{label}: {problem}" for problem in _geometry_problems(image_volume, label_volume)]
    return () if image_volume is None else image_volume[0].shape


def check_images_and_masks(
    items: Sequence[Mapping[str, str]],
    parts: Mapping[str, Collection[str]],
    report: DatasetReport,
    colored: bool | None,
    bright_class: int = 1,
    progress: bool = True,
    soft: bool = False,
    may_be_empty: bool = False,
) -> None:
    """
    Read pictures and black and white masks, and write down in the report what they hold and what is wrong with them.

    Args:
        items: ``image``, ``label`` (paths, empty where there is no such file) and ``case`` of each.
        parts: the cases in each part of the split, as ``name_parts`` gives them.
        report: where to write.
        colored: whether the images should be RGB, or gray; None for either.
        bright_class: class of the white pixels in the masks, 0 or 1; the black ones are of the other. Defaults to 1.
        progress: whether to show a progress bar. Defaults to True.
        soft: whether masks may be gray, see ``gray_mask_problem``. Defaults to False.
        may_be_empty: whether a mask may hold one class only. Defaults to False.
    """
    things = f"{report.image_word}s"
    for part in parts:
        report.count(part, **{things: 0})
    for item in tqdm(items, desc=f"Checking {report.name}", unit=report.image_word, disable=not progress):
        report.count_case(parts, item["case"], **{things: 1})
        image, mask = (_read_picture(item[key], report) for key in ("image", "label"))
        if image is not None:
            report.shapes.append((image.shape[1], image.shape[0]))
            problems = [
                *_picture_problems(image, item["image"], colored),
                *report.copy_problems(item["image"], [image]),
            ]
            report.problems += [f"{item['image']}: {problem}" for problem in problems]
        if mask is not None:
            problems = _mask_problems(mask, item["label"], bright_class, report, soft, may_be_empty)
            if image is not None and image.shape[:2] != mask.shape[:2]:
                problems.append(f"has {_size(mask)} pixels, its image {_size(image)}")
            report.problems += [f"{item['label']}: {problem}" for problem in problems]
    report.problems += [
        f"{report.folder}: no {report.image_word} of the part {part!r} of the split"
        for part in parts
        if not report.counts[part][things]
    ]


def _read_volume(path: str, report: DatasetReport) -> tuple[np.ndarray, VolumeAxes] | None:
    """Voxels and axes; None, and a problem in the report, when there is nothing that can be read."""
    if not path:
        return None
    try:
        voxels, meta = VolumeReader(channels=None).get_data((path,))
    except (OSError, ValueError) as error:
        report.problems.append(f"{path}: {str(error).removeprefix(path).lstrip(': ')}")
        return None
    return voxels, VolumeAxes.of(meta)


def _volume_problems(voxels: np.ndarray, hounsfield: bool) -> list[str]:
    problems = []
    if voxels.ndim != 3:
        problems.append(f"has {voxels.ndim} dimensions, shape {voxels.shape}; expected one volume of 3")
    finite = np.isfinite(voxels)
    if not finite.all():
        problems.append(f"has {np.isnan(voxels).sum()} NaN and {np.isinf(voxels).sum()} infinite voxels")
    elif voxels.min() == voxels.max():
        problems.append("is empty: all voxels are equal")
    elif hounsfield:
        problems += _hounsfield_problems(voxels)
    return problems


def _hounsfield_problems(voxels: np.ndarray) -> list[str]:
    problem = hounsfield_problem(voxels.min(), voxels.max())
    if problem:
        return [problem]
    if voxels.dtype.kind == "f" and not np.allclose(voxels, np.round(voxels), rtol=0, atol=0.01):
        return ["has values that are not integers, as if it was resampled; take the original scan"]
    return []


def _label_problems(labels: np.ndarray, report: DatasetReport) -> list[str]:
    """Problems of a mask; its voxels go into the histogram of the report."""
    problems = []
    expected = f"expected 0 to {len(report.class_names) - 1}"
    values, counts = np.unique(counted_values(labels, "", report.ignore_label), return_counts=True)
    integer = np.isfinite(values) & (values == np.round(values))
    if not integer.all():
        fractions = f"{counts[~integer].sum()} voxels that are not integers ({_list(values[~integer])})"
        problems.append(f"has {fractions}; {expected}")
    allowed = integer & (values >= 0) & (values < len(report.class_names))
    outside = integer & ~allowed
    if outside.any():
        problems.append(f"has {counts[outside].sum()} voxels of other labels ({_list(values[outside])}); {expected}")
    if not (allowed & (values > 0)).any():
        problems.append("is empty: no voxel of any class but background")
    report.voxels[values[allowed].astype(int)] += counts[allowed]
    report.volumes_with_class[values[allowed].astype(int)] += 1
    return problems


def _geometry_problems(image: tuple[np.ndarray, VolumeAxes], label: tuple[np.ndarray, VolumeAxes]) -> list[str]:
    problem = shape_problem(image[0].shape, label[0].shape)
    if not problem and image[0].ndim == 3:  # another number is reported with the image
        problem = place_problem(image[0].shape, image[1].affine, label[1].affine)
    return [problem] if problem else []


def _list(values: Sequence[float] | np.ndarray, limit: int = 5) -> str:
    return ", ".join(f"{value:.4g}" for value in values[:limit]) + (", ..." if len(values) > limit else "")


def _read_picture(path: str, report: DatasetReport) -> np.ndarray | None:
    """Pixels ``(Y, X)`` or ``(Y, X, 3)``; None, and a problem in the report, when there is nothing that can be read."""
    if not path:
        return None
    try:
        pages = ImageFileReader(max_pixels=None).read_pages(path)
    except (ValueError, OSError) as error:
        report.problems.append(f"{path}: {str(error).removeprefix(path).strip()}")
        return None
    return pages[0] if len(pages) == 1 else None  # a stack is a problem of the layout


def _picture_problems(image: np.ndarray, file: str, colored: bool | None) -> list[str]:
    problems = []
    if image.dtype != np.uint8:
        problems.append(
            f"has values of {8 * image.dtype.itemsize} bits, {image.min():g} to {image.max():g}; expected 8"
        )
    if colored and image.ndim == 2:
        problems.append("is gray, expected colors")
    if colored is False and has_colors(image, is_jpeg(file)):
        problems.append("has colors, expected gray")
    if image.min() == image.max():
        problems.append("is empty: all pixels are equal")
    return problems


def _mask_problems(
    mask: np.ndarray, file: str, bright_class: int, report: DatasetReport, soft: bool, may_be_empty: bool
) -> list[str]:
    """Problems of a mask; where it is well, its pixels go into the histogram of the report."""
    if has_colors(mask, is_jpeg(file)):
        return ["has colors, expected black and white"]
    gray = mask if mask.ndim == 2 else mask[..., 0]
    problem = gray_mask_problem(gray, file, soft, report.ignore_label)
    if problem:
        return [problem]
    gray = counted_values(gray, file, report.ignore_label)
    bright = int((gray >= 128).sum())
    counts = np.array([gray.size - bright, bright] if bright_class else [bright, gray.size - bright])
    report.voxels += counts
    report.volumes_with_class += counts > 0
    if not counts.all() and not may_be_empty:
        return [f"is empty: all pixels are {report.class_names[int(counts.argmax())]}"]
    return []


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[1]} x {picture.shape[0]}"
