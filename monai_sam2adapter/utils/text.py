# SPDX-License-Identifier: Apache-2.0
"""What is said to the user: what somebody may have meant, and texts from outside that are safe to show."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

__all__ = ["nearest_name", "printable", "spreadsheet_cell"]

_FORMULA = (*"=+-@", *"\uff1d\uff0b\uff0d\uff20")  # the latter as wide as a Chinese character


def nearest_name(name: object, known: Collection[str]) -> str:
    """
    The end of a message about an unknown name.

    Args:
        name: what was given.
        known: what there is.

    Returns:
        "did you mean ...?" with the nearest name, in any case of letters, else all names.
    """
    by_lower = {option.lower(): option for option in known}
    nearest = get_close_matches(str(name).lower(), by_lower, n=1)
    return f"did you mean {by_lower[nearest[0]]}?" if nearest else f"there are {', '.join(known) or 'none'}."


def printable(text: object) -> str:
    """
    A text from outside, such as the name of a file, for a log, a terminal or a page: in one line, without what would
    control a terminal or turn the direction of writing.

    Returns:
        the text, with characters that are not printable as in Python's source, such as ``\\n`` and ``\\x1b``.
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(text))


def spreadsheet_cell(value: object) -> object:
    """
    A cell of a CSV file that a spreadsheet does not take for a formula: a text that begins as one gets "'" in front.

    Returns:
        the value; numbers as they are.
    """
    if not isinstance(value, str):
        return value
    starts_one = value.startswith(("\t", "\r", "\n")) or value.lstrip().startswith(_FORMULA)  # programs skip spaces
    return f"'{value}" if starts_one else value
