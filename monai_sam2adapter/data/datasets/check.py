# SPDX-License-Identifier: Apache-2.0
"""What a data set holds and what is wrong with it; each data set fills the same report."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np

from ..geometry import place_problem, shape_problem, voxel_spacing
from ..pixel_values import hounsfield_problem

__all__ = ["DatasetReport", "check_image_and_label", "format_report"]

# the row of what no part of the split names
_NO_PART = "in no part"


@dataclass
class DatasetReport:
    """
    Counts and problems of one data set, as ``check_image_and_label`` collects them.

    Args:
        name: name of the data set.
        folder: where it is.
        class_names: what the labels stand for, from 0 on; no other label is allowed.
        counts: for every part of the split, how many there are of each thing, such as patients, volumes and slices.
        shapes: shape of every image that could be read.
        spacings: voxel spacing of every image that could be read, in mm; none for images without such.
        problems: one text for every problem, with the file that it is in.
        image_word: what an image is called in the printed report. Defaults to "volume".
        voxel_word: what its elements are called there. Defaults to "voxel".
        voxels: voxels (or pixels) of each class in all masks.
        volumes_with_class: masks that hold each class.
    """

    name: str
    folder: str
    class_names: tuple[str, ...]
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    spacings: list[tuple[float, ...]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    image_word: str = "volume"
    voxel_word: str = "voxel"
    voxels: np.ndarray = field(init=False)
    volumes_with_class: np.ndarray = field(init=False)
    _files_of_contents: dict[bytes, str] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.voxels = np.zeros(len(self.class_names), dtype=np.int64)
        self.volumes_with_class = np.zeros(len(self.class_names), dtype=np.int64)

    def count(self, part: str, **things: int) -> None:
        """Add to the counts of a part of the split, such as ``count("train", volumes=1, slices=10)``."""
        row = self.counts.setdefault(part, {})
        for thing, number in things.items():
            row[thing] = row.get(thing, 0) + number

    def count_case(self, parts: Mapping[str, Collection[str]], name: str, **things: int) -> None:
        """As ``count``, in every part that names the case or patient (see ``name_parts``), or in the row of none."""
        for part in [part for part, names in parts.items() if name in names] or [_NO_PART]:
            self.count(part, **things)

    def copy_problems(self, file: str, arrays: Sequence[np.ndarray]) -> list[str]:
        """
        Find out whether an image was seen before: in two parts of a split, it would be trained on and tested with.

        Args:
            file: where it is from.
            arrays: its values, or those of its slices in their order, slices along the last axis; of any type.

        Returns:
            one text when the values are those of a file before this one; nothing for images of equal values.
        """
        if all(array.size == 0 or array.min() == array.max() for array in arrays):
            return []
        content = hashlib.sha256(str([array.shape[:-1] for array in arrays[:1]]).encode())
        for array in arrays:
            # of one type, so that it does not count how a value is stored, and the last axis first, as files have it
            content.update(np.ascontiguousarray(array.T, dtype=np.float32).data)
        first = self._files_of_contents.setdefault(content.digest(), file)
        return [] if first == file else [f"shows the same as {first}, {self.voxel_word} by {self.voxel_word}"]


def check_image_and_label(image: str, label: str, report: DatasetReport, hounsfield: bool = False) -> tuple[int, ...]:
    """
    Read a NIfTI volume and its mask, and write down in the report what they hold and what is wrong with them.

    nibabel reads them and not MONAI's ``LoadImage``, which would turn labels that are not integers into such.

    Args:
        image: path of the volume; empty when there is none.
        label: path of the mask; empty when there is none.
        report: where to write.
        hounsfield: whether the volume must be a CT in Hounsfield units, with air and bone in it, as integers. Defaults
            to False.

    Returns:
        shape of the volume, empty when it cannot be read.
    """
    image_volume = _read(image, report)
    label_volume = _read(label, report)
    if image_volume is not None:
        report.shapes.append(image_volume[0].shape)
        report.spacings.append(voxel_spacing(image_volume[1]))
        problems = [*_image_problems(*image_volume, hounsfield), *report.copy_problems(image, image_volume[:1])]
        report.problems += [f"{image}: {problem}" for problem in problems]
    if label_volume is not None:
        report.problems += [f"{label}: {problem}" for problem in _label_problems(label_volume[0], report)]
    if image_volume is not None and label_volume is not None:
        report.problems += [f"{label}: {problem}" for problem in _geometry_problems(image_volume, label_volume)]
    return () if image_volume is None else image_volume[0].shape


def format_report(report: DatasetReport) -> str:
    """
    Write a report as text for a terminal.

    Args:
        report: the report.

    Returns:
        several lines: counts, sizes, spacings, label histogram and problems.
    """
    lines = [f"{report.name} in {report.folder}", ""]
    columns = list(dict.fromkeys(thing for row in report.counts.values() for thing in row))
    rows = [["", *columns]]
    rows += [[part, *(str(row.get(thing, 0)) for thing in columns)] for part, row in report.counts.items()]
    lines += [*_table(rows, text_column=0), ""]
    if report.shapes:
        lines.append(f"size     {_range(report.shapes, '{:.0f}')} {report.voxel_word}s")
        if report.spacings:
            lines.append(f"spacing  {_range(report.spacings, '{:.4g}')} mm")
        lines.append("")
    share = 100 * report.voxels / max(int(report.voxels.sum()), 1)
    rows = [["label", "class", f"{report.voxel_word}s", "%", f"{report.image_word}s with it"]]
    for k, name in enumerate(report.class_names):
        rows.append([str(k), name, str(report.voxels[k]), f"{share[k]:.2f}", str(report.volumes_with_class[k])])
    lines += [*_table(rows, text_column=1), ""]
    if report.problems:
        lines += [f"{len(report.problems)} problems:", *(f"  {problem}" for problem in report.problems)]
    else:
        lines.append("no problems found")
    return "\n".join(lines)


def _read(path: str, report: DatasetReport) -> tuple[np.ndarray, np.ndarray] | None:
    """Voxels and affine (4, 4); None, and a problem in the report, when there is nothing that can be read."""
    if not path:
        return None
    try:
        volume = nib.load(path)
        voxels, affine = np.asanyarray(volume.dataobj), np.asarray(volume.affine)  # type: ignore[attr-defined]
    # a damaged file makes nibabel, gzip and zlib raise whatever they stumble over, and the check has to go on
    except Exception as error:
        report.problems.append(f"{path}: cannot be read ({Path(path).stat().st_size} bytes): {error}")
        return None
    if voxels.dtype.kind not in "biuf":
        report.problems.append(f"{path}: holds {voxels.dtype}, expected one real number a voxel")
        return None
    return voxels, affine


def _image_problems(voxels: np.ndarray, affine: np.ndarray, hounsfield: bool) -> list[str]:
    if voxels.size == 0:
        return [f"has no voxels: its shape is {voxels.shape}"]
    problems = []
    if voxels.ndim != 3:
        problems.append(f"has {voxels.ndim} dimensions, shape {voxels.shape}; expected one volume of 3")
    spacing = voxel_spacing(affine)
    if not (np.isfinite(spacing).all() and min(spacing) > 0):
        problems.append(f"has the voxel spacing {_list(spacing)} mm; expected positive numbers")
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
    values, counts = np.unique(labels, return_counts=True)
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


def _geometry_problems(image: tuple[np.ndarray, np.ndarray], label: tuple[np.ndarray, np.ndarray]) -> list[str]:
    problem = shape_problem(image[0].shape, label[0].shape)
    if not problem and image[0].ndim == 3:  # another number is reported with the image
        problem = place_problem(image[0].shape, image[1], label[1])
    return [problem] if problem else []


def _list(values: Sequence[float] | np.ndarray, limit: int = 5) -> str:
    return ", ".join(f"{value:.4g}" for value in values[:limit]) + (", ..." if len(values) > limit else "")


def _range(rows: Sequence[tuple[float, ...]], form: str) -> str:
    """Range of every axis of (N, axes) numbers; rows with another number of axes than the most are left out."""
    axes = max(len(row) for row in rows)
    columns = list(zip(*[row for row in rows if len(row) == axes], strict=True))
    ends = [(form.format(min(column)), form.format(max(column))) for column in columns]
    return " x ".join(low if low == high else f"{low}-{high}" for low, high in ends)


def _table(rows: Sequence[Sequence[str]], text_column: int) -> list[str]:
    """Rows with aligned columns: one of text, to the left, the others of numbers, to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        cells[text_column] = row[text_column].ljust(widths[text_column])
        lines.append("  ".join(cells))
    return lines
