# SPDX-License-Identifier: Apache-2.0
"""CaseReportSaver; what it computes and draws is tested beside it."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Events

from monai_sam2adapter.handlers import CaseReportSaver
from monai_sam2adapter.reports import CardiacFunction
from monai_sam2adapter.visualize import OverlayPlanes

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
    for metric in ("dice", "iou", "hd95_mm"):
        row = summary[metric, "mean"]
        assert float(row["mean"]) == pytest.approx(evaluator.state.metrics[metric], abs=1e-6)
        assert float(row["ci95_low"]) < float(row["mean"]) < float(row["ci95_high"])
        assert row["n_valid"] == "6"
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
        "metric": "dice", "mean": "0.600000", "ci95_low": "0.500000", "ci95_high": "0.700000", "std": "0.100000",
        "median": "0.600000", "min": "0.500000",
        "max": "0.700000", "n_valid": "2",
    }  # fmt: skip
    assert rows["c"]["mean"] == rows["c"]["max"] == rows["c"]["ci95_low"] == "nan"
    results = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert results["metrics"]["dice"]["values"] == [
        [pytest.approx(0.5), None, None], [pytest.approx(0.7), pytest.approx(0.2), None],
        [None, pytest.approx(0.4), None],
    ]  # fmt: skip
    assert rows["c"]["n_valid"] == "0"
    assert rows["mean"]["mean"] == "0.450000"
    assert rows["mean"]["n_valid"] == "4"

    (record,) = [r for r in caplog.records if r.name == "monai_sam2adapter.handlers.case_report"]
    table = record.getMessage().splitlines()
    assert table[0].startswith("Evaluation of 3 cases")
    assert table[2].split() == ["a", "0.600", "+-", "0.100", "(2)"]
    assert table[4].split() == ["c", "nan", "(0)"]
    assert table[5].split() == ["mean", "0.450", "(4)"]
    assert len({len(line) for line in table[1:6]}) == 1


def test_agreement_without_its_metrics_is_left_out_with_a_warning(
    evaluator_factory, tiny_network, tmp_path, caplog
) -> None:
    cases = [{"case": f"patient{n:03d}", "patient": "p", "phase": ""} for n in range(3)]
    classes = ["right ventricle", "myocardium", "left ventricle"]
    details = FixedDetails([[0.5, 0.5, 0.5]] * 3)
    report = CaseReportSaver(tmp_path, classes, metrics=["dice"], agreement=CardiacFunction(cases, classes))
    evaluator_factory(tiny_network, val_handlers=[details, report]).run()
    assert "it needs volume_true_ml and volume_predicted_ml among the metrics" in caplog.text
    assert "agreement" not in json.loads((tmp_path / "results.json").read_text())


@pytest.mark.parametrize(
    ("class_names", "metrics", "message"),
    [
        (
            CLASSES,
            ["dice", "hd95"],
            r"no details of the metrics \['hd95'\], only of \['dice', 'hd95_mm', 'iou', 'miou_po",
        ),
        (["background", *CLASSES], ["dice"], r"values of shape \(3, 2\), expected 3 cases x 3 classes"),
        (CLASSES, ["dice", "iou"], r"the metrics have scored \{'dice': 1\} cases, expected 3"),
    ],
    ids=["unknown metric", "class names", "other cases"],
)
def test_what_does_not_fit_is_refused(evaluator_factory, tiny_network, tmp_path, class_names, metrics, message) -> None:
    details = [FixedDetails([[0.5, 0.5]])] if "scored" in message else []
    report = CaseReportSaver(tmp_path, class_names, metrics=metrics)
    with pytest.raises(ValueError, match=message):
        evaluator_factory(tiny_network, val_handlers=[*details, report]).run()
    assert not list(tmp_path.iterdir())


def test_pooled_scores_and_the_run_are_in_all_files(evaluator_factory, tiny_network, tmp_path, caplog) -> None:
    caplog.set_level(logging.INFO, logger="monai_sam2adapter")
    checkpoint = tmp_path / "model.pt"
    checkpoint.write_bytes(b"weights")
    report = CaseReportSaver(
        tmp_path, CLASSES, metrics=["hd95_mm", "miou_pooled"], title="A < B", about={"data set": "phantoms", "fold": 1},
        checkpoint_file=checkpoint,
    )  # fmt: skip
    evaluator = evaluator_factory(tiny_network, val_handlers=[report])
    evaluator.run()
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["title"] == "A < B"
    about = results["about"]
    assert (about["data set"], about["fold"]) == ("phantoms", "1")
    assert hashlib.sha256(b"weights").hexdigest() in about["checkpoint"]
    assert f"torch {torch.__version__}" in about["versions"]
    assert re.match(r"\d{4}-\d\d-\d\dT", about["date"])
    assert results["cases"] == ["patient000", "patient001", "patient002"]

    value = evaluator.state.metrics["miou_pooled"]
    assert results["pooled"]["miou_pooled"]["summary"][-1]["mean"] == pytest.approx(value)
    matrices = evaluator.state.metric_details["miou_pooled"]
    counts = {"counts": matrices.sum(0).tolist(), "case_counts": matrices.tolist()}
    assert results["confusion_matrix"] == {"class_names": ["background", *CLASSES], **counts}
    rows = {(row["metric"], row["class"]): row for row in read(tmp_path / "summary.csv")}
    assert float(rows["miou_pooled", "mean"]["mean"]) == pytest.approx(value, abs=1e-6)
    assert rows["dice_pooled", "background"]["std"] == "nan"
    assert list(read(tmp_path / "cases.csv")[0]) == ["case", "class", "hd95_mm"]
    assert f"miou_pooled, background counted: {value:.3f} (95 % interval" in caplog.text

    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h1>A &lt; B</h1>" in page
    # large distances are bad ones
    distances = np.array(results["metrics"]["hd95_mm"]["values"]).mean(axis=1)
    assert f"patient{distances.argmax():03d}: worst<" in page
    assert f"patient{distances.argmin():03d}: median and best<" in page or f"{distances.argmin():03d}: best<" in page


def test_only_the_cases_that_are_shown_are_drawn(evaluator_factory, tiny_network, tmp_path, monkeypatch) -> None:
    draw, sizes = OverlayPlanes.draw, []
    monkeypatch.setattr(OverlayPlanes, "draw", lambda *args: (sizes.append(args[0].image.shape), draw(*args))[1])
    report = CaseReportSaver(tmp_path, CLASSES, metrics=["dice"])
    evaluator_factory(tiny_network, n_cases=6, val_handlers=[report]).run()
    assert sizes == [(6, 8)] * 3
    assert (tmp_path / "report.html").read_text().count("<img") == 1 + 3


def test_only_pooled_scores_and_one_case(evaluator_factory, tiny_network, tmp_path, caplog) -> None:
    caplog.set_level(logging.INFO, logger="monai_sam2adapter")
    report = CaseReportSaver(tmp_path, CLASSES, metrics=["miou_pooled"])
    evaluator_factory(tiny_network, val_handlers=[report], n_cases=1).run()
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["metrics"] == {}
    assert results["pooled"]["miou_pooled"]["summary"][-1]["ci95_low"] is None
    assert "(no interval from one case)" in caplog.text
    assert "<img" not in (tmp_path / "report.html").read_text()


def test_cases_of_one_name_are_kept_and_numbered(evaluator_factory, tiny_network, tmp_path) -> None:
    evaluator = evaluator_factory(tiny_network, val_handlers=[CaseReportSaver(tmp_path, CLASSES, metrics=["dice"])])
    for item in evaluator.data_loader.dataset.data:
        item["image"].meta["filename_or_obj"] = "/scans/volume.nii"
    evaluator.run()
    assert [row["case"] for row in read(tmp_path / "cases.csv")][::2] == ["volume", "volume (2)", "volume (3)"]


def test_what_cannot_be_drawn_is_no_reason_for_no_report(evaluator_factory, tiny_network, tmp_path, caplog) -> None:
    report = CaseReportSaver(tmp_path, CLASSES, metrics=["dice"], image_key="scan")
    evaluator_factory(tiny_network, val_handlers=[report]).run()
    assert "The report has no picture of 3 cases, the first: case_0: KeyError('scan')" in caplog.text
    assert "Examples" not in (tmp_path / "report.html").read_text()
    assert len(read(tmp_path / "cases.csv")) == 6


TWO_PROCESSES = """
import sys
from functools import partial
import torch.distributed as dist
from monai.data import DistributedSampler
from monai_sam2adapter.handlers import CaseReportSaver
output_dir, fixtures = sys.argv[1:]
sys.path.insert(0, fixtures)
from conftest import TinyNetwork, make_evaluator
dist.init_process_group("gloo")
for name, even in (("repeated", True), ("uneven", False)):
    report = CaseReportSaver(f"{output_dir}/{name}", ["ventricle", "wall, outer"], ["dice", "hd95_mm", "miou_pooled"])
    sampler = partial(DistributedSampler, shuffle=False, even_divisible=even)
    make_evaluator(TinyNetwork(), n_cases=5, sampler_class=sampler, val_handlers=[report]).run()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_count_each_case_once(evaluator_factory, tiny_network, run_two_processes, tmp_path) -> None:
    """Five cases on two processes: the sampler gives the first one twice, unless it may leave a process with fewer."""
    errors = run_two_processes(TWO_PROCESSES, str(tmp_path), str(Path(__file__).parent))
    report = CaseReportSaver(tmp_path / "one", CLASSES, ["dice", "hd95_mm", "miou_pooled"])
    evaluator_factory(tiny_network, n_cases=5, val_handlers=[report]).run()
    assert errors[0].count("1 cases came more than once") == 1
    assert "came more than once" not in errors[1]
    expected = without_date(tmp_path / "one")
    assert expected["report.html"].count("<img") == 5  # box plots and examples of both processes
    assert without_date(tmp_path / "repeated") == expected
    assert without_date(tmp_path / "uneven") == expected


def without_date(folder: Path) -> dict[str, str]:
    return {path.name: re.sub(r"\d{4}-\d\d-\d\dT[\d:+]+", "", path.read_text()) for path in folder.glob("[!.]*")}


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
