# SPDX-License-Identifier: Apache-2.0
"""Yes or no from the command line."""

from __future__ import annotations

__all__ = ["as_flag"]

_WORDS = {"true": True, "false": False}


def as_flag(value: object, name: str) -> bool:
    """
    Read a yes or no strictly. MONAI's command line hands ``--resume false`` over as a string, which Python takes for
    true.

    Args:
        value: True, False, or one of the words true and false in any case.
        name: what the flag is called, for the message.

    Returns:
        the flag.

    Raises:
        ValueError: when the value is anything else.
    """
    flag = _WORDS.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(flag, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}.")
    return flag
