# SPDX-License-Identifier: Apache-2.0
"""CaseReportSaver and the names of cases."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import MetaTensor

from monai_sam2adapter.handlers import CaseReportSaver, get_case_names

CLASSES = ["ventricle", "wall, outer"]


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("batch_size", [1, 2])
def test_files_hold_what_the_metrics_found(evaluator_factory, tiny_network, tmp_path, caplog, batch_size) -> None:
    caplog.set_level(logging.INFO, logger="monai_sam2adapter")
    report = CaseReportSaver(tmp_path / "new", CLASSES)
    evaluator = evaluator_factory(tiny_network, val_handlers=[report], batch_size=batch_size)
    evaluator.run()
    evaluator.run()  # a second run replaces the first

    rows = read(tmp_path / "new" / "cases.csv")
    assert list(rows[0]) == ["case", "class", "dice", "iou", "hd95_mm"]
    assert [row["case"] for row in rows] == [f"patient{n:03d}" for n in (0, 0, 1, 1, 2, 2)]
    assert [row["class"] for row in rows] == CLASSES * 3
    for metric in ("dice", "iou", "hd95_mm"):
        written = np.array([float(row[metric]) for row in rows]).reshape(3, 2)
        np.testing.assert_allclose(written, evaluator.state.metric_details[metric].numpy(), atol=1e-6)
        assert written.std() > 0

    summary = {(row["metric"], row["class"]): row for row in read(tmp_path / "new" / "summary.csv")}
    assert len(summary) == 9
    for metric, value in evaluator.state.metrics.items():
        assert float(summary[metric, "mean"]["mean"]) == pytest.approx(value, abs=1e-6)
        assert summary[metric, "mean"]["n_valid"] == "6"
    column = evaluator.state.metric_details["dice"][:, 1].numpy()
    row = summary["dice", "wall, outer"]
    for name in ("mean", "std", "median", "min", "max"):
        assert float(row[name]) == pytest.approx(getattr(np, name)(column), abs=1e-6)
    assert row["n_valid"] == "3"


class FixedDetails:
    """Puts given values in the place where MONAI's metrics leave theirs."""

    def __init__(self, values: list[list[float]]) -> None:
        self.values = torch.tensor(values)

    def attach(self, engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: engine.state.metric_details.update(dice=self.values))


def test_structures_without_a_value_are_nan_and_left_out(evaluator_factory, tiny_network, tmp_path, caplog) -> None:
    nan = float("nan")
    caplog.set_level(logging.INFO, logger="monai_sam2adapter")
    details = FixedDetails([[0.5, nan, nan], [0.7, 0.2, nan], [nan, 0.4, nan]])
    report = CaseReportSaver(tmp_path, ["a", "b", "c"], metrics=["dice"])
    evaluator_factory(tiny_network, val_handlers=[details, report]).run()

    assert [row["dice"] for row in read(tmp_path / "cases.csv")][:4] == ["0.500000", "nan", "nan", "0.700000"]
    rows = {row.pop("class"): row for row in read(tmp_path / "summary.csv")}
    assert rows["a"] == {
        "metric": "dice", "mean": "0.600000", "std": "0.100000", "median": "0.600000", "min": "0.500000",
        "max": "0.700000", "n_valid": "2",
    }  # fmt: skip
    assert rows["c"]["mean"] == rows["c"]["max"] == "nan"
    assert rows["c"]["n_valid"] == "0"
    assert rows["mean"]["mean"] == "0.450000"
    assert rows["mean"]["n_valid"] == "4"

    (record,) = [r for r in caplog.records if r.name == "monai_sam2adapter.handlers.case_report"]
    table = record.getMessage().splitlines()
    assert table[0].startswith("Evaluation of 3 cases")
    assert table[2].split() == ["a", "0.600", "+-", "0.100", "(2)"]
    assert table[4].split() == ["c", "nan", "+-", "nan", "(0)"]
    assert table[5].split() == ["mean", "0.450", "+-", "0.100", "(4)"]
    assert len({len(line) for line in table[1:6]}) == 1


def test_unknown_metric_is_refused(evaluator_factory, tiny_network, tmp_path) -> None:
    report = CaseReportSaver(tmp_path, CLASSES, metrics=["dice", "hd95"])
    with pytest.raises(ValueError, match=r"no details of the metrics \['hd95'\], only of \['dice', 'hd95_mm', 'iou'\]"):
        evaluator_factory(tiny_network, val_handlers=[report]).run()
    assert not list(tmp_path.iterdir())


def test_wrong_number_of_class_names_is_refused(evaluator_factory, tiny_network, tmp_path) -> None:
    report = CaseReportSaver(tmp_path, ["background", *CLASSES])
    with pytest.raises(ValueError, match=r"values of shape \(3, 2\), expected 3 cases x 3 classes"):
        evaluator_factory(tiny_network, val_handlers=[report]).run()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_names": []}, r"class_names must be a list of different names, got \[\]"),
        ({"class_names": ["a", "a"]}, r"class_names must be a list of different names, got \['a', 'a'\]"),
        ({"class_names": ["a"], "metrics": []}, "metrics must be a list of different names"),
    ],
)
def test_ill_names_are_refused(arguments, message, tmp_path) -> None:
    with pytest.raises(ValueError, match=message):
        CaseReportSaver(tmp_path, **arguments)


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("/data/patient001_frame01.nii.gz", "patient001_frame01"),
        ("scan.v2.nii", "scan.v2"),
        ("/dicom/series/", "series"),
        ("image.jpg", "image"),
        (None, "case_7"),
    ],
)
def test_case_is_named_after_its_file(filename, expected) -> None:
    image = MetaTensor(torch.zeros(1, 2, 2), meta={"filename_or_obj": filename})
    assert get_case_names([{"image": image}], first_index=7) == [expected]


def test_case_entry_goes_before_the_file_and_plain_tensors_are_numbered() -> None:
    image = MetaTensor(torch.zeros(1, 2, 2), meta={"filename_or_obj": "file.nii"})
    assert get_case_names([{"image": image, "case": "patient"}]) == ["patient"]
    assert get_case_names([{"image": torch.zeros(1)}] * 2, first_index=3) == ["case_3", "case_4"]
    assert get_case_names({"image": torch.zeros(2, 1, 4, 4), "case": ["a", "b"]}) == ["a", "b"]
