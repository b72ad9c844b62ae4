# SPDX-License-Identifier: Apache-2.0
"""Texts from outside in logs and tables."""

from __future__ import annotations

import csv
import io
import logging
import sys
import unicodedata
from pathlib import Path

import pytest

from monai_sam2adapter.utils import escaping_logger, printable, spreadsheet_cell

HOSTILE = [
    "a\n2026-01-01 - INFO - all is well",
    "\x1b[2J",
    "a\rb",
    "\0",
    "\x9b31m",
    "\u202eexe.gnp",
    "\u2028",
    "\udcff",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_controls_is_left(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown.encode()
    assert all(char in shown for char in text if char.isprintable())


def test_every_control_character_is_escaped_and_every_letter_kept() -> None:
    for char in map(chr, range(sys.maxunicode + 1)):
        controls = unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        if controls or char.isalnum():
            assert (printable(char) == char) is not controls


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("kind", [str, lambda text: Path(text.replace("\0", "\x01")), ValueError])
def test_no_argument_of_a_log_forges_a_line(text: str, kind: type, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        escaping_logger("monai_sam2adapter.some").info("two\nlines: %s, %d", kind(text), 3)
    (message,) = caplog.messages
    assert len(message.splitlines()) == 2
    assert all(line.isprintable() for line in message.split("\n"))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "\u00a0+", "\uff1d"])
@pytest.mark.parametrize("rest", ['HYPERLINK("http://x","y")', "1+1", ""])
def test_no_text_starts_a_formula(start: str, rest: str) -> None:
    cell = spreadsheet_cell(start + rest)
    assert cell == f"'{start}{rest}"
    text = io.StringIO()
    csv.writer(text).writerow([cell, -1.5])
    assert next(csv.reader(io.StringIO(text.getvalue(), newline=""))) == [cell, "-1.5"]


@pytest.mark.parametrize("value", ["case_1", "a=b", "", "1", -0.5, 3, None, float("nan")])
def test_everything_else_stays(value: object) -> None:
    assert spreadsheet_cell(value) is value
