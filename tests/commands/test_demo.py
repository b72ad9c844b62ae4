# SPDX-License-Identifier: Apache-2.0
"""The demo, as `make demo` runs it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from monai_sam2adapter.__main__ import main

BUNDLE = Path(__file__).parents[2] / "bundles" / "acdc_cardiac_segmentation"


def test_outside_a_checkout_it_asks_for_the_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--bundle_root", str(tmp_path), "--output_dir", str(tmp_path / "out")]) == 2
    assert "--bundle_root" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_learns_to_segment_phantoms_that_it_has_not_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--bundle_root", str(BUNDLE), "--output_dir", str(tmp_path)]) == 0
    with (tmp_path / "eval" / "summary.csv").open(newline="", encoding="utf-8") as file:
        dice = {row["class"]: float(row["mean"]) for row in csv.DictReader(file) if row["metric"] == "dice"}
    assert dice["mean"] > 0.8
    assert len(list((tmp_path / "prediction").glob("*_seg.nii.gz"))) == 2
    assert "left ventricle" in capsys.readouterr().out
