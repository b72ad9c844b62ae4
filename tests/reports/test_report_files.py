# SPDX-License-Identifier: Apache-2.0
"""Names from outside do no harm in any file of a report."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from monai_sam2adapter.reports import evaluation_results, format_results_text, write_report

HOSTILE = [
    '=HYPERLINK("http://x")',
    "@SUM(1)",
    "+1",
    "-cmd|' /C calc'!A0",
    "\t=1",
    "a\nb",
    "\x1b[2J",
    "\0",
    "\udcff",
    "<b>",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(name: str, tmp_path: Path) -> None:
    scores = {"dice": np.array([[0.5], [-0.25]])}
    results = {"title": name, "about": {name: name}, **evaluation_results([name, "b"], [name], scores)}
    write_report(results, tmp_path, [(name, b"")])
    for file in ("cases.csv", "summary.csv"):
        with (tmp_path / file).open(newline="", encoding="utf-8") as text:
            rows = list(csv.reader(text))
        assert len(rows) == 3
        cells = [cell for row in rows for cell in row if cell != "-0.250000"]
        assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r\n") or not cell.isprintable()]
    assert "-0.250000" in (tmp_path / "cases.csv").read_text(encoding="utf-8")
    ElementTree.parse(tmp_path / "report.html")
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["metrics"]["dice"]["values"][1] == [
        -0.25
    ]
    assert all(line.isprintable() for line in format_results_text(results).split("\n"))
