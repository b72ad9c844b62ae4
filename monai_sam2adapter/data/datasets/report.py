# SPDX-License-Identifier: Apache-2.0
"""What a data set holds and what is wrong with it; each data set fills the same report."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...utils import printable
from ..geometry import voxel_spacing
from ..orientation import VolumeAxes, unlike_the_rest

__all__ = ["DatasetReport", "format_report"]

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
        axes: axes and spacing of every volume that could be read, by its file; none for images without such.
        problems: one text for every problem, with the file that it is in.
        image_word: what an image is called in the printed report. Defaults to "volume".
        voxel_word: what its elements are called there. Defaults to "voxel".
        ignore_label: value of the labels that does not count. Defaults to None: all count.
        overlapping: whether a voxel may have several classes, and there is no background. Defaults to False.
        voxels: voxels (or pixels) of each class in all masks.
        volumes_with_class: masks that hold each class.
        overlaps: of overlapping classes, the voxels that each two have in common.
        num_counted: of overlapping classes, how many voxels there are.
    """

    name: str
    folder: str
    class_names: tuple[str, ...]
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    axes: dict[str, VolumeAxes] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    image_word: str = "volume"
    voxel_word: str = "voxel"
    ignore_label: int | None = None
    overlapping: bool = False
    num_counted: int = field(init=False, default=0)
    overlaps: np.ndarray = field(init=False)
    voxels: np.ndarray = field(init=False)
    volumes_with_class: np.ndarray = field(init=False)
    _files_of_contents: dict[bytes, str] = field(init=False, repr=False, default_factory=dict)

    @property
    def spacings(self) -> list[tuple[float, ...]]:
        """Voxel spacing of every volume that could be read, in mm."""
        return [voxel_spacing(axes.affine) for axes in self.axes.values()]

    def __post_init__(self) -> None:
        self.voxels = np.zeros(len(self.class_names), dtype=np.int64)
        self.volumes_with_class = np.zeros(len(self.class_names), dtype=np.int64)
        self.overlaps = np.zeros([len(self.class_names)] * 2, dtype=np.int64)

    def count(self, part: str, **things: int) -> None:
        """Add to the counts of a part of the split, such as ``count("train", volumes=1, slices=10)``."""
        row = self.counts.setdefault(part, {})
        for thing, number in things.items():
            row[thing] = row.get(thing, 0) + number

    def count_case(self, parts: Mapping[str, Collection[str]], name: str, **things: int) -> None:
        """As ``count``, in every part that names the case or patient (see ``name_parts``), or in the row of none."""
        for part in [part for part, names in parts.items() if name in names] or [_NO_PART]:
            self.count(part, **things)

    def count_overlaps(self, overlaps: np.ndarray, any_class: np.ndarray) -> None:
        """
        Add what two classes have in common.

        Args:
            overlaps: as :py:func:`monai_sam2adapter.data.datasets.overlapping.overlaps_of` gives them, ``(K, K)``.
            any_class: 0 or 1 where a voxel counts, anything else where it does not.
        """
        self.overlaps += overlaps
        self.num_counted += int((any_class <= 1).sum())

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


def format_report(report: DatasetReport) -> str:
    """
    Write a report as text for a terminal.

    Args:
        report: the report.

    Returns:
        several lines: counts, sizes, axes and spacing of each volume, those that differ from the rest, label histogram
        and problems.
    """
    lines = [f"{report.name} in {report.folder}", ""]
    columns = list(dict.fromkeys(thing for row in report.counts.values() for thing in row))
    rows = [["", *columns]]
    rows += [[part, *(str(row.get(thing, 0)) for thing in columns)] for part, row in report.counts.items()]
    lines += [*_table(rows, text_column=0), ""]
    if report.shapes:
        lines.append(f"size     {_range(report.shapes, '{:.0f}')} {report.voxel_word}s")
        if report.axes:
            lines.append(f"spacing  {_range(report.spacings, '{:.4g}')} mm")
        lines.append("")
    lines += _axes_lines(report)
    total = report.num_counted if report.overlapping else int(report.voxels.sum())
    share = 100 * report.voxels / max(total, 1)
    rows = [
        [
            "channel" if report.overlapping else "label",
            "class",
            f"{report.voxel_word}s",
            "%",
            f"{report.image_word}s with it",
        ]
    ]
    for k, name in enumerate(report.class_names):
        rows.append([str(k), name, str(report.voxels[k]), f"{share[k]:.2f}", str(report.volumes_with_class[k])])
    lines += [*_table(rows, text_column=1), "", *_overlap_lines(report)]
    if report.problems:
        lines += [f"{len(report.problems)} problems:", *(f"  {problem}" for problem in report.problems)]
    else:
        lines.append("no problems found")
    return "\n".join(map(printable, lines))


def _axes_lines(report: DatasetReport) -> list[str]:
    """Axes and spacing of every volume, and those that differ from the rest."""
    if not report.axes:
        return []
    rows = [[report.image_word, "axes", "spacing [mm]"]]
    for file, axes in report.axes.items():
        spacing = " x ".join(f"{side:.4g}" for side in voxel_spacing(axes.affine))
        rows.append([_below(file, report.folder), axes.codes if axes.is_stated else "?", spacing])
    lines = [*_table(rows, text_column=0), ""]
    others = unlike_the_rest(report.axes)
    if others:
        lines.append(f"{len(others)} of {len(report.axes)} {report.image_word}s lie otherwise than the rest:")
        lines += [*(f"  {_below(file, report.folder)}: {text}" for file, text in others.items()), ""]
    return lines


def _overlap_lines(report: DatasetReport) -> list[str]:
    """Which of the classes that may overlap do."""
    if not report.overlapping:
        return []
    pairs = [(a, b) for a in range(len(report.class_names)) for b in range(a) if report.overlaps[a, b]]
    if not pairs:
        return ["no two classes overlap; they might be exclusive, which is trained by one softmax", ""]
    rows = [["classes in one place", f"{report.voxel_word}s", "% of the first", "% of the second"]]
    for a, b in pairs:
        shares = [f"{100 * report.overlaps[a, b] / report.voxels[one]:.1f}" for one in (b, a)]
        rows.append([f"{report.class_names[b]} and {report.class_names[a]}", str(report.overlaps[a, b]), *shares])
    return [*_table(rows, text_column=0), ""]


def _below(file: str, folder: str) -> str:
    path = Path(file)
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else file


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
