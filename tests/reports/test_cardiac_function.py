# SPDX-License-Identifier: Apache-2.0
"""Ejection fraction, mass and their agreement against numbers by hand, and as files."""

from __future__ import annotations

import csv
import io
import json
import logging
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from monai_sam2adapter.reports import CardiacFunction, evaluation_results, format_results_text, write_report

CLASSES = ["right ventricle", "myocardium", "left ventricle"]
NAMES = ["p1_frame01", "p1_frame12", "p2_frame01", "p2_frame09", "p3_frame01", "p3_frame10"]
# ml of the right ventricle, the myocardium and the left one, at ED and ES of each patient
TRUE = np.array([[120, 100, 140], [60, 98, 56], [150, 80, 160], [90, 82, 80], [100, 90, 100], [50, 91, 40]], float)
PREDICTED = TRUE + np.array([[0, 0, 0], [12, 0, 0], [0, 10, 0], [-15, 0, 16], [10, -20, 0], [5, 0, -4]], float)


def cases(phases: str = "ED ES ED ES ED ES") -> list[dict[str, str]]:
    return [
        {"case": name, "patient": name[:2], "phase": phase.strip("-")}
        for name, phase in zip(NAMES, phases.split(), strict=True)
    ]


def measure(phases: str = "ED ES ED ES ED ES", kept: list[int] | None = None, predicted: Any = PREDICTED) -> Any:
    kept = list(range(6)) if kept is None else kept
    scores = {"volume_true_ml": TRUE[kept], "volume_predicted_ml": predicted[kept]}
    return CardiacFunction(cases(phases), CLASSES)([NAMES[n] for n in kept], scores)


def test_by_hand() -> None:
    found = measure()
    assert found["patients"] == ["p1", "p2", "p3"]
    measures = found["measures"]
    assert measures["lv_ef"]["reference"] == pytest.approx([60, 50, 60])  # (140 - 56) / 140, ...
    assert measures["lv_ef"]["predicted"] == pytest.approx([60, 40, 64])
    assert measures["rv_ef"]["reference"] == pytest.approx([50, 40, 50])
    assert measures["rv_ef"]["predicted"] == pytest.approx([40, 50, 50])
    assert measures["myocardial_mass"]["reference"] == pytest.approx([105, 84, 94.5])
    assert measures["myocardial_mass"]["predicted"] == pytest.approx([105, 94.5, 73.5])
    assert measures["lv_edv"]["reference"] == [140, 160, 100]
    assert measures["rv_esv"]["predicted"] == [72, 75, 55]
    # differences of the left ejection fraction: 0, -10, 4; their squares around -2 sum up to 4 + 64 + 36 = 104
    sd = np.sqrt(104 / 2)
    expected = {"n": 3, "bias": -2, "sd": sd, "limit_low": -2 - 1.96 * sd, "limit_high": -2 + 1.96 * sd}
    assert {key: measures["lv_ef"][key] for key in expected} == pytest.approx(expected)


def test_order_and_number_of_the_frames_do_not_matter() -> None:
    """The phases of the second patient are those of Info.cfg, whose ES may come first."""
    found = measure("ED ES ES ED ED ES")["measures"]["lv_ef"]["reference"]
    assert found == pytest.approx([60, 100 * (80 - 160) / 80, 60])
    assert measure(kept=[5, 0, 3, 1, 2, 4])["measures"]["lv_ef"]["bias"] == pytest.approx(-2)


def test_without_phases_the_larger_left_ventricle_of_the_reference_is_ed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    swapped = PREDICTED[[1, 0, 2, 3, 4, 5]]  # the prediction takes no part in it
    assert measure("- - - - - -", predicted=swapped)["measures"]["lv_ef"]["reference"] == pytest.approx([60, 50, 60])
    assert "phases of 3 patients" in caplog.text


def test_a_patient_with_one_frame_is_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    found = measure(kept=[0, 1, 2, 4, 5])
    assert found["patients"] == ["p1", "p3"]
    assert "No cardiac function of p2: it needs one frame at ED and one at ES." in caplog.text
    assert found["measures"]["lv_ef"]["n"] == 2
    assert measure("ED ES ED ED ED ES")["patients"] == ["p1", "p3"]  # two frames at ED
    none = measure(kept=[2])
    assert none["patients"] == []
    assert np.isnan(none["measures"]["lv_ef"]["bias"])


def test_a_missed_ventricle_has_no_ejection_fraction_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    predicted = PREDICTED.copy()
    predicted[0, 2] = 0
    found = measure(predicted=predicted)["measures"]
    assert np.isnan(found["lv_ef"]["predicted"][0])
    assert (found["lv_ef"]["n"], found["lv_edv"]["n"]) == (2, 3)
    assert "No LV ejection fraction of p1: there is no left ventricle at ED." in caplog.text


def test_other_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="needs the classes myocardium, left ventricle, got"):
        CardiacFunction(cases(), ["right ventricle", "liver"])


@pytest.mark.parametrize("kept", [None, [0, 1], [0]], ids=["three", "one patient", "none"])
def test_files_and_page_hold_the_patients(kept: list[int] | None, tmp_path: Path) -> None:
    agreement = measure(kept=kept)
    scores = {"dice": np.ones((2, 3))}
    results = {"title": "t", "about": {}, **evaluation_results(["a", "b"], CLASSES, scores), "agreement": agreement}
    files = write_report(results, tmp_path)
    plots = sorted(tmp_path.glob("bland_altman_*.png"))
    assert [f"bland_altman_{key}.png" for key in sorted(agreement["measures"])] == [path.name for path in plots]
    assert {"patients.csv", "agreement.csv", *(path.name for path in plots)} < {*files}
    rows = list(csv.DictReader(io.StringIO((tmp_path / "patients.csv").read_text())))
    assert len(rows) == 7 * len(agreement["patients"])
    (summary,) = [
        row
        for row in csv.DictReader(io.StringIO((tmp_path / "agreement.csv").read_text()))
        if row["measure"] == "lv_ef"
    ]
    page = (tmp_path / "report.html").read_text()
    ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>"))
    assert page.count("data:image/png") == 1 + 7
    assert "nan" not in page.split("<h2>")[1]
    text = format_results_text(results)
    if kept is None:
        assert float(summary["bias"]) == pytest.approx(-2)
        assert [row["difference"] for row in rows if row["measure"] == "lv_ef"] == [
            "0.000000",
            "-10.000000",
            "4.000000",
        ]
        assert "LV ejection fraction (%): bias -2.00, limits of agreement -16.13 to 12.13, n 3" in text
        for number in ("-2.000", "7.211", "-16.134 to 12.134"):
            assert f">{number}<" in page
        ink = [np.asarray(Image.open(path).convert("L")) < 250 for path in plots]
        assert all(0.01 < picture.mean() < 0.3 for picture in ink)
        written = json.loads((tmp_path / "results.json").read_text())["agreement"]
        assert written["measures"]["myocardial_mass"]["predicted"] == pytest.approx([105, 94.5, 73.5])
    write_report({**results, "agreement": None}, tmp_path)
    assert not [*tmp_path.glob("bland*"), *tmp_path.glob("patients.csv")], "of an earlier run"
