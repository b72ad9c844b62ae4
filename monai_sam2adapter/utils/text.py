# SPDX-License-Identifier: Apache-2.0
"""What somebody may have meant."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

__all__ = ["nearest_name"]


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
