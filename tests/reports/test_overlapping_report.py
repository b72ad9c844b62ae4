# SPDX-License-Identifier: Apache-2.0
"""Reports of classes that overlap: a matrix for each class, and no background in any file."""

from __future__ import annotations

import csv
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from monai_sam2adapter.reports import evaluation_results, format_results_text, write_report

# of two cases and two classes: [[in neither, only predicted], [missed, in both]]
CONFUSIONS = np.array([[[[90, 2], [3, 5]], [[100, 0], [0, 0]]], [[[80, 5], [5, 10]], [[60, 8], [12, 20]]]])


def test_pooled_scores_are_of_each_class_by_itself(tmp_path: Path) -> None:
    scores = {"dice": np.array([[0.6, np.nan], [0.7, 0.5]])}
    results = {"title": "t", "about": {}, **evaluation_results(["a", "b"], ["lung", "clavicle"], scores, CONFUSIONS)}
    rows = {row["class"]: row for row in results["pooled"]["dice_pooled"]["summary"]}
    # 2 * 15 / (22 + 23) and 2 * 20 / (28 + 32)
    assert rows["lung"]["mean"] == pytest.approx(30 / 45)
    assert rows["clavicle"]["mean"] == pytest.approx(40 / 60)
    assert [rows[name]["n_valid"] for name in ("lung", "clavicle")] == [2, 1]
    assert results["confusion_matrix"]["class_names"] == ["lung", "clavicle"]
    assert results["confusion_matrix"]["counts"] == CONFUSIONS.sum(axis=0).tolist()

    assert "each class by itself: 0.667" in format_results_text(results)
    write_report(results, tmp_path)
    page = ElementTree.fromstring((tmp_path / "report.html").read_text(encoding="utf-8"))
    cells = [[cell.text for cell in row] for row in page.iter("tr")]
    assert ["lung", "15", "8", "7", "170"] in cells
    assert ["clavicle", "20", "12", "8", "160"] in cells
    with open(tmp_path / "summary.csv", newline="") as file:
        assert {row["class"] for row in csv.DictReader(file)} == {"lung", "clavicle", "mean"}
