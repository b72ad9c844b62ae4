# SPDX-License-Identifier: Apache-2.0
"""KEY=VALUE on the command line."""

from __future__ import annotations

import argparse
import json

__all__ = ["add_set_option", "read_setting", "split_setting"]


def add_set_option(parser: argparse.ArgumentParser, text: str) -> None:
    """Add ``--set KEY=VALUE``, which may be repeated, as ``settings``."""
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help=f"{text}; repeat for more"
    )


def read_setting(text: str) -> tuple[str, object]:
    """
    Read what stands behind ``--set``: the value as JSON where it is any, such as a number or a list, else as text.

    Raises:
        ValueError: when there is no "=".
    """
    key, value = split_setting(text, "--set", "KEY=VALUE, such as --set variant=small")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def split_setting(text: str, option: str, form: str) -> tuple[str, str]:
    """
    Split a text at its first "=".

    Args:
        text: what was typed behind the option.
        option: its name, for the message.
        form: what the text has to be, for the message.

    Raises:
        ValueError: when there is no "=", or nothing in front of it.
    """
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ValueError(f"{option} {text} must be {form}.")
    return key, value
