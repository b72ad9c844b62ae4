# SPDX-License-Identifier: Apache-2.0
"""Names of classes and channels in a ``dataset.json``, of MSD and of both versions of nnU-Net."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["channel_names", "class_names"]


def class_names(labels: Any, path: Path) -> tuple[tuple[str, ...], int | None]:
    """
    Read the names of classes.

    Args:
        labels: ``{"0": "background"}`` (MSD, nnU-Net v1) or ``{"background": 0}`` (nnU-Net v2).
        path: the file, for messages.

    Returns:
        the names by number, and the number of the label to ignore, where there is one.

    Raises:
        ValueError: when it is of another form, has a gap between the numbers, or regions.
    """
    expected = 'expected {"0": "background", "1": "name", ...} or {"background": 0, "name": 1, ...}'
    if not isinstance(labels, dict) or not labels:
        raise ValueError(f"{path}: labels is {labels!r}; {expected}")
    regions = [name for name, value in labels.items() if isinstance(value, list)]
    if regions:
        raise ValueError(
            f"{path}: the labels {', '.join(regions)} are regions, each of several numbers, which are not supported "
            "yet; give each number one name"
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
