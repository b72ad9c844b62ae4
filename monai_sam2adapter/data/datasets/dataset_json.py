# SPDX-License-Identifier: Apache-2.0
"""Names of classes and channels in a ``dataset.json``, of MSD and of both versions of nnU-Net."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["channel_names", "class_names", "overlapping_classes"]


def class_names(labels: Any, path: Path) -> tuple[tuple[str, ...], int | None]:
    """
    Read the names of classes.

    Args:
        labels: ``{"0": "background"}`` (MSD, nnU-Net v1) or ``{"background": 0}`` (nnU-Net v2).
        path: the file, for messages.

    Returns:
        the names by number, and the number of the label to ignore, where there is one.

    Raises:
        ValueError: when it is of another form, has a gap between the numbers, or regions, which overlap.
    """
    expected = 'expected {"0": "background", "1": "name", ...} or {"background": 0, "name": 1, ...}'
    if not isinstance(labels, dict) or not labels:
        raise ValueError(f"{path}: labels is {labels!r}; {expected}")
    regions = [name for name, value in labels.items() if isinstance(value, list)]
    if regions:
        raise ValueError(
            f"{path}: the labels {', '.join(regions)} are regions, each of several numbers, so that they overlap; give "
            "--label_type overlapping, or each number one name"
        )
    numbers: dict[int, str] = {}
    for key, value in labels.items():
        by_name = isinstance(value, int) and not isinstance(value, bool)
        number, name = (value, key) if by_name else (int(key) if key.isdecimal() else -1, value)
        if number < 0 or not isinstance(name, str) or not name or number in numbers:
            raise ValueError(f"{path}: the label {key!r}: {value!r} is malformed, or there twice; {expected}")
        numbers[number] = name
    ignored = next((number for number, name in numbers.items() if name.lower() == "ignore"), None)
    if ignored is not None:
        del numbers[ignored]
    if sorted(numbers) != list(range(len(numbers))) or len(numbers) < 2 or len(set(numbers.values())) < len(numbers):
        raise ValueError(
            f"{path}: the labels have the numbers {sorted(numbers)}; expected 0 (background), 1, 2, ... without a gap, "
            "each with its own name"
        )
    return tuple(numbers[number] for number in range(len(numbers))), ignored


def overlapping_classes(
    labels: Any, class_order: Any, path: Path
) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...] | None, tuple[int, ...], int | None]:
    """
    Read the classes of labels that overlap.

    Regions are those of nnU-Net v2: a region is one number or several, in the order of the file; the background, 0, and
    the label ``ignore`` are none.

    Source: ``LabelManager`` in ``nnunetv2/utilities/label_handling/label_handling.py`` of github.com/MIC-DKFZ/nnUNet
    (Apache-2.0).

    Args:
        labels: ``["heart", "lung"]``, of masks, or ``{"background": 0, "whole tumor": [1, 2, 3], "core": [2, 3]}``.
        class_order: ``regions_class_order``: by which number each region is written back to one label map.
        path: the file, for messages.

    Returns:
        names of the classes; for each its numbers, None for masks; the order; and the number of the label to ignore,
        where there is one.

    Raises:
        ValueError: when it is of another form.
    """
    expected = 'expected ["heart", "lung"] of masks, or {"background": 0, "whole tumor": [1, 2, 3], "core": [2, 3]}'
    if isinstance(labels, list) and labels and all(isinstance(name, str) and name for name in labels):
        if len(set(labels)) < len(labels):
            raise ValueError(f"{path}: labels has a name twice: {labels}; {expected}")
        return tuple(labels), None, (), None
    if not isinstance(labels, dict) or not any(isinstance(value, list) and len(value) > 1 for value in labels.values()):
        raise ValueError(
            f"{path}: labels is {labels!r}, which has no region of several numbers; {expected}. Classes that exclude "
            "each other need no label_type"
        )
    numbers = {name: tuple(value) if isinstance(value, list) else (value,) for name, value in labels.items()}
    wrong = [name for name, region in numbers.items() if not region or not all(_is_number(one) for one in region)]
    if wrong or numbers.get("background") != (0,):
        raise ValueError(f"{path}: the label {(wrong or ['background'])[0]!r} is malformed or missing; {expected}")
    ignored = numbers.pop("ignore", None)
    regions = {name: region for name, region in numbers.items() if set(region) != {0}}
    used = {one for region in regions.values() for one in region}
    if 0 in used or (ignored is not None and (len(ignored) > 1 or ignored[0] <= max(used))):
        raise ValueError(
            f"{path}: the labels are {labels!r}; expected regions without the background, 0, and a label to ignore "
            f"above all others, {max(used) + 1}"
        )
    order = class_order if isinstance(class_order, list) else []
    if len(order) != len(regions) or not all(map(_is_number, order)) or not set(order) <= used:
        raise ValueError(
            f"{path}: regions_class_order is {class_order!r}; expected {len(regions)} of the labels {sorted(used)}, "
            f"one for each of {', '.join(regions)}: the number that is written where the region is, later ones over "
            "earlier ones"
        )
    return tuple(regions), tuple(regions.values()), tuple(order), ignored[0] if ignored else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def channel_names(channels: Any, key: str, path: Path) -> tuple[str, ...]:
    """
    Read the names of channels.

    Args:
        channels: ``{"0": "CT"}``, or one name.
        key: its key, for messages.
        path: the file, for messages.

    Returns:
        the names by number.

    Raises:
        ValueError: when it is of another form.
    """
    channels = {"0": channels} if isinstance(channels, str) else channels
    if not isinstance(channels, dict) or sorted(channels) != sorted(map(str, range(len(channels)))) or not channels:
        raise ValueError(f'{path}: {key} is {channels!r}; expected {{"0": "CT"}}, with one name a channel, from 0 on')
    return tuple(str(channels[str(number)]) for number in range(len(channels)))
