# SPDX-License-Identifier: Apache-2.0
"""Reading anyone's images and labels, and finding out what classes there are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from ...utils import escaping_logger, warn_once
from ..orientation import VolumeAxes
from ..pixel_values import counted_values, depth_problem, gray_mask_problem, hounsfield_problem, is_jpeg
from ..readers import ImageFileReader, VolumeReader, label_colors
from .layouts import LabeledCases

__all__ = [
    "ColorsOfLabels",
    "DepthsOfPictures",
    "count_labels",
    "find_classes",
    "read_picture",
    "read_volume",
    "to_classes",
    "warn_of_units",
]

logger = escaping_logger(__name__)


def read_volume(image: str | Sequence[str], channels: int | None = None) -> tuple[np.ndarray, VolumeAxes]:
    """
    Args:
        image: a file, or one for each channel.
        channels: how many there are; None for any number. Defaults to None.

    Returns:
        values ``(C, X, Y, Z)``, and how the axes lie.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it cannot be read, or has another number of channels.
    """
    files = (image,) if isinstance(image, str) else tuple(image)
    array, meta = VolumeReader(channels).get_data(files)
    array = array[..., None] if array.ndim == 3 else array.reshape(*array.shape[:3], -1)
    return np.moveaxis(array, -1, 0), VolumeAxes.of(meta)


def warn_of_units(image: str | Sequence[str], values: np.ndarray, are_ct: Sequence[bool]) -> None:
    """
    Warn by name of channels of CT that are not in Hounsfield units.

    Args:
        image: a file, or one for each channel.
        values: ``(C, X, Y, Z)``.
        are_ct: which channels are CT.
    """
    files = [image] * len(values) if isinstance(image, str) else image
    for file, channel, wanted in zip(files, values, are_ct, strict=False):
        problem = hounsfield_problem(channel.min(), channel.max()) if wanted else ""
        if problem:
            warn_once(logger, file, f"{problem}, unless it is a part without air or bone")


def read_picture(file: str, labels: bool = False) -> np.ndarray:
    """
    Args:
        file: a picture of one page.
        labels: whether its pixels are class numbers, or black and white. Defaults to False.

    Returns:
        values ``(C, Y, X)``, one channel or 3.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it cannot be read as it is, or has several pages.
    """
    pages = ImageFileReader(max_pixels=None, labels=labels).read_pages(file)
    if len(pages) > 1:
        raise ValueError(f"{file} is a stack of {len(pages)} pages, expected one; save each as a file")
    return pages[0][None] if pages[0].ndim == 2 else np.moveaxis(pages[0], -1, 0)


class DepthsOfPictures:
    """Whether pictures can be read together: where one has colors, all are read as RGB of 8 bits."""

    def __init__(self) -> None:
        self.has_colors = False
        self._deep: dict[str, str] = {}

    def add(self, file: str, image: np.ndarray) -> None:
        """
        Args:
            file: a picture.
            image: its values ``(C, Y, X)``.
        """
        self.has_colors = self.has_colors or (len(image) == 3 and not (image == image[:1]).all())
        problem = depth_problem(image, max_bits=8)
        if problem:
            self._deep[file] = problem

    def problems(self) -> list[str]:
        """A text for every picture that cannot be read with the others."""
        return [f"{file}: {problem}" for file, problem in self._deep.items()] if self.has_colors else []


def to_classes(labels: np.ndarray, file: str, black_and_white: bool, ignore_label: int | None = None) -> np.ndarray:
    """
    Args:
        labels: a mask, ``(1, ...)``.
        file: where it is from.
        black_and_white: whether it is cut into black and white.
        ignore_label: value of pixels that do not count. Defaults to None: all count.

    Returns:
        class numbers of the pixels that count, in a row where some do not.

    Raises:
        ValueError: when the mask is to be cut and has other values than black and white.
    """
    problem = gray_mask_problem(labels[0], file, ignore_label=ignore_label) if black_and_white else ""
    if problem:
        raise ValueError(f"{file} {problem}")
    counted = counted_values(labels[0], file, ignore_label)
    return counted >= 128 if black_and_white else counted


def count_labels(labels: np.ndarray, file: str, num_classes: int | None = None) -> np.ndarray:
    """
    Args:
        labels: class numbers, of any shape and type.
        file: where they are from.
        num_classes: number of classes, background counted; None for any. Defaults to None.

    Returns:
        how often each class occurs, ``(num_classes,)``, or up to the highest that occurs.

    Raises:
        ValueError: when there is a value that is no class.
    """
    values, counts = np.unique(labels, return_counts=True)
    highest = 65535 if num_classes is None else num_classes - 1
    wrong = ~((values >= 0) & (values <= highest) & (values == np.round(values)))  # NaN is wrong too
    if wrong.any():
        text = ", ".join(f"{value:g}" for value in values[wrong][:5]) + (", ..." if wrong.sum() > 5 else "")
        raise ValueError(
            f"{file} has the labels {text} in {counts[wrong].sum()} places; expected integers from 0 to {highest}"
        )
    total = np.zeros(int(values.max(initial=0)) + 1 if num_classes is None else num_classes, dtype=np.int64)
    total[values.astype(int)] = counts
    return total


class ColorsOfLabels:
    """
    Watches that a class number has one color in all masks of a set.

    Masks that show their classes by a palette, or by a channel, may each count the colors anew: then one number stands
    for different classes, which no file tells by itself.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[tuple[int, ...], str]] = {}

    def add(self, file: str, mask: np.ndarray) -> None:
        """
        Args:
            file: a mask, a picture; one without colors is of no concern.
            mask: its class numbers, ``(1, Y, X)``.

        Raises:
            ValueError: when it has another color for a class number than a mask before.
        """
        for number, color in label_colors(file, mask[0]).items():
            other, before = self._seen.setdefault(number, (color, file))
            if color != other:
                raise ValueError(
                    f"{file} shows the class {number} in the color {color}, {before} in {other}; expected one color "
                    "for each class in all masks: where each file numbers its colors by itself, map colors to numbers"
                )


def find_classes(
    found: LabeledCases, kind: str, progress: bool = True, ignore_label: int | None = None
) -> tuple[tuple[str, ...], bool]:
    """
    Name the classes: as the data do, else by what is in the labels.

    Args:
        found: the cases; labels are read where the data do not name the classes, and of all pictures.
        kind: "volume" or "picture".
        progress: whether to show a progress bar. Defaults to True.
        ignore_label: value of pixels that do not count. Defaults to None: all count.

    Returns:
        the names, background first (``class 1`` and so on, where the data do not say), and whether masks are black and
        white (0 and 255): pictures with no other values, where there are not more than two classes.

    Raises:
        ValueError: when the data do not name the classes, and the labels have a gap between their numbers, or nothing
            but background.
    """
    if found.class_names is not None and (kind == "volume" or len(found.class_names) > 2):
        _require_lossless(found, kind)
        return found.class_names, False
    values: set[float] = set()
    errors: list[Exception] = []
    may_be_cut = kind == "picture"
    for case in tqdm(found.all_cases, desc="Finding classes", unit=kind, disable=not progress):
        file = case["label"]
        try:
            mask = read_volume(file, 1)[0] if kind == "volume" else read_picture(file, labels=True)
            labels = to_classes(mask, file, False, ignore_label)
        except (OSError, ValueError) as error:  # reading it again, to train or to check, tells
            errors.append(error)
            continue
        in_file = set(np.unique(labels).tolist())
        is_cut = not gray_mask_problem(mask, file, ignore_label=ignore_label) if is_jpeg(file) else in_file <= {0, 255}
        may_be_cut = may_be_cut and is_cut
        values |= in_file
    if errors and not values:
        raise errors[0]
    if may_be_cut and max(values, default=0) > 1:
        return found.class_names or ("background", "foreground"), True
    _require_lossless(found, kind)
    if found.class_names is not None:
        return found.class_names, False
    highest = max(values, default=0)
    if highest < 1 or not set(range(1, int(highest) + 1)) | {0} >= values >= set(range(1, int(highest) + 1)):
        shown = ", ".join(f"{value:g}" for value in sorted(values)[:12])
        raise ValueError(
            f"{found.file} does not name its classes, and its labels have the values {shown}; expected 0 (background), "
            "1, 2, ... without a gap. Repair the labels, name the one that does not count as ignore_label, or name the "
            "classes: 'labels' in dataset.json or the datalist"
        )
    return ("background", *(f"class {number}" for number in range(1, int(highest) + 1))), False


def _require_lossless(found: LabeledCases, kind: str) -> None:
    """Of masks that hold class numbers."""
    lossy = [case["label"] for case in found.all_cases if kind == "picture" and is_jpeg(case["label"])]
    if lossy:
        raise ValueError(
            f"{lossy[0]} is a JPEG, whose compression changes class numbers; expected masks of black and white (0 and "
            "255), or PNG files: take the original masks"
        )
