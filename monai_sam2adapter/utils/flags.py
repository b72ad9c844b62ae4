# SPDX-License-Identifier: Apache-2.0
"""Yes or no on the command line."""

from __future__ import annotations

from typing import Any

__all__ = ["require_flags"]


def require_flags(**flags: Any) -> None:
    """
    Refuse options that must be True or False and are anything else; a step of every bundle's ``initialize``.

    MONAI's command line passes ``--amp false`` on as the text "false", which Python takes for true.

    Args:
        flags: the values by the names of the options.

    Raises:
        ValueError: when one is no bool.
    """
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False, got {value!r}; write --{name} True or --{name} False.")
