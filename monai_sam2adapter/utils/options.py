# SPDX-License-Identifier: Apache-2.0
"""Options as they come from a command line."""

from __future__ import annotations

__all__ = ["require_bool"]


def require_bool(**options: object) -> None:
    """
    Refuse options that are neither True nor False. MONAI's command line hands ``--skip_existing false`` over as a
    string, which Python takes for true.

    Args:
        options: the values by their names.

    Raises:
        ValueError: when one is anything else.
    """
    for name, value in options.items():
        if not isinstance(value, bool):
            raise ValueError(
                f"{name} must be True or False, got {value!r}; on the command line write --{name} True or "
                f"--{name} False, with a capital letter."
            )
