# SPDX-License-Identifier: Apache-2.0
"""``train_folds`` as a user runs it."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from monai_sam2adapter import data
from monai_sam2adapter.__main__ import main
from monai_sam2adapter.comparison import ComparisonCell, folds
from monai_sam2adapter.reports import evaluation_results, write_report

BUNDLES = Path(__file__).parents[2] / "bundles"
ACDC, VOLUMES = BUNDLES / "acdc_cardiac_segmentation", BUNDLES / "volume_segmentation"
SETTINGS = {
    **{"image_size": 32, "batch_size": 4, "num_workers": 0, "epochs": 1, "sam2_checkpoint": "random", "device": "cpu"},
    **{"adapter": "none", "train#trainer#epoch_length": 1},
}
CLASSES = ["right ventricle", "myocardium", "left ventricle"]


@pytest.fixture(scope="module")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients, and a split by which two of them are tested once."""
    folder = tmp_path_factory.mktemp("hearts")
    data.write_acdc_phantom(folder, num_train=1, num_val=1, num_test=1, progress=False)
    a, b, c = sorted(path.name for path in (folder / "training").iterdir())
    content = [{"train": [a], "val": [b], "test": [c]}, {"train": [c], "val": [b], "test": [a]}]
    (folder / "split.json").write_text(json.dumps({"folds": content}), encoding="utf-8")
    return folder


def command(dataset_dir: Path, output: Path, *arguments: str, bundle: Path = ACDC, **settings: Any) -> list[str]:
    settings = {**SETTINGS, **settings}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    places = ["--dataset_dir", str(dataset_dir), "--output_dir", str(output)]
    return ["train_folds", str(bundle), *places, *words, "--jobs", "1", *arguments]


def of_hearts(hearts: Path, output: Path, *arguments: str, **settings: Any) -> list[str]:
    return command(hearts, output, "--folds", "2", *arguments, split_file=hearts / "split.json", **settings)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def finish(cell: ComparisonCell, cases: Sequence[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What the training of a fold leaves, with scores and confusion matrices at random; returns these."""
    generator = np.random.default_rng(seed)
    dice, confusions = generator.random((len(cases), 3)), generator.integers(0, 99, (len(cases), 4, 4))
    dice[0, 1] = np.nan
    results = evaluation_results(cases, CLASSES, {"dice": dice}, confusions)
    about = {"data set": "hearts", "fold": str(seed), "checkpoint": f"{cell.models / 'model.pt'}, SHA-256 {seed}"}
    write_report({"title": "ACDC", "about": about, **results}, Path(cell.folder) / "eval")
    score = {"score": 0.5, "larger_is_better": True, "cases": len(cases), "seconds": 1.0}
    cell.result_file.write_text(json.dumps({**score, **dict.fromkeys(("epochs", "iterations"), 1)}), encoding="utf-8")
    return dice, confusions


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[list[str]]], list[Any]]:
    """Trainings that take no time: each fold has the given cases; returns what they scored."""

    def fake(cases: list[list[str]]) -> list[Any]:
        scored: list[Any] = []

        def run(cells: Sequence[ComparisonCell], *args: Any) -> dict[ComparisonCell, str]:
            for number, (cell, names) in enumerate(zip(cells, cases, strict=True)):
                cell.write()
                scored.append((cell, *finish(cell, names, number)))
            return {}

        monkeypatch.setattr(folds, "run_cells", run)
        return scored

    return fake


def test_the_pooled_table_is_that_of_the_cases_of_all_folds(
    faked: Callable[..., list[Any]], hearts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scored = faked([["a", "b", "c"], ["d", "e"]])
    output = tmp_path / "all folds"
    assert main(of_hearts(hearts, output)) == 0
    (_, first, some), (_, second, others) = scored
    dice, confusion = np.concatenate([first, second]), np.concatenate([some, others]).sum(0)
    by_class = {row["class"]: row for row in table(output / "pooled/summary.csv") if row["metric"] == "dice"}
    for name, column in zip(CLASSES, dice.T, strict=True):
        assert float(by_class[name]["mean"]) == pytest.approx(np.nanmean(column), abs=1e-6)
        assert float(by_class[name]["std"]) == pytest.approx(np.nanstd(column), abs=1e-6)
        assert int(by_class[name]["n_valid"]) == (~np.isnan(column)).sum()
    results = json.loads((output / "pooled/results.json").read_text(encoding="utf-8"))
    assert results["confusion_matrix"]["counts"] == confusion.tolist()
    iou = [confusion[k, k] / (confusion[k].sum() + confusion[:, k].sum() - confusion[k, k]) for k in range(4)]
    assert results["pooled"]["miou_pooled"]["summary"][-1]["mean"] == pytest.approx(np.mean(iou))
    assert (results["title"], results["about"]["folds"]) == ("ACDC, 2 folds", "2; 5 cases, tested once")
    assert results["about"]["checkpoint"].count("SHA-256") == 2
    assert [row["method"] for row in table(output / "folds.csv")] == ["fold 0", "fold 1"]
    assert [cell.options["fold"] for cell, *_ in scored] == [0, 1]

    *_, last = capsys.readouterr().out.strip().splitlines()
    words = shlex.split(last)
    given = dict(zip(words[5::2], words[6::2], strict=True))
    assert words[:5] == ["python", "-m", "monai.bundle", "run", "inference"]
    assert given["--checkpoint_file"] == str([str(output / f"fold_{k}" / "models" / "model.pt") for k in range(2)])
    assert (given["--adapter"], given["--image_size"], given["--bundle_root"]) == ("none", "32", str(ACDC))
    assert not {"--epochs", "--split_file", "--sam2_checkpoint", "--train#trainer#epoch_length"} & given.keys()


def test_a_case_that_several_folds_test_is_told_apart(
    faked: Callable[..., list[Any]], hearts: Path, tmp_path: Path
) -> None:
    faked([["a", "b"], ["b", "c"]])
    assert main(of_hearts(hearts, tmp_path / "out")) == 0
    results = json.loads((tmp_path / "out/pooled/results.json").read_text(encoding="utf-8"))
    assert results["cases"] == ["a", "b (fold 0)", "b (fold 1)", "c"]
    assert results["about"]["folds"] == "2; 3 cases, tested some in several folds, by each fold's own network"


def test_folds_share_what_an_ensemble_has_to_have_in_common(
    faked: Callable[..., list[Any]], hearts: Path, tmp_path: Path
) -> None:
    """CT is normalized by the voxels of the training cases, which are others in each fold."""
    cases = [case for part in ("train", "val", "test") for case in data.acdc_datalist(hearts, part)]
    labels = {name: number for number, name in enumerate(data.ACDC_CLASS_NAMES)}
    content = {"labels": labels, "modality": {"0": "CT"}, "training": cases}
    (tmp_path / "list.json").write_text(json.dumps(content), encoding="utf-8")
    described = [data.describe_volumes(tmp_path / "list.json", fold, progress=False) for fold in range(2)]
    assert described[0]["normalization"] != described[1]["normalization"]
    scored = faked([["a"], ["b"]])
    arguments = command(tmp_path / "list.json", tmp_path / "out", "--folds", "2", bundle=VOLUMES)
    assert main(arguments) == 0
    for cell, *_ in scored:
        assert cell.options["normalization"] == described[0]["normalization"]
        assert cell.options["class_names"] == list(data.ACDC_CLASS_NAMES)
    own = [{"mean": 1.0, "std": 2.0}]
    scored = faked([["a"], ["b"]])
    arguments = command(tmp_path / "list.json", tmp_path / "own", "--folds", "2", bundle=VOLUMES)
    assert main([*arguments, "--set", f"normalization={json.dumps(own)}"]) == 0
    assert [cell.options["normalization"] for cell, *_ in scored] == [own, own]


ERRORS: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "folds": ({}, ["--folds", "3"], "there is no fold 2: split file"),
    "one fold": ({}, ["--folds", "1"], "folds must be at least 2, got 1"),
    "key": ({"imagesize": 64}, [], "has no key 'imagesize' (option imagesize); did you mean image_size?"),
    "fold": ({"fold": 1}, [], "--set sets fold, which the command sets by itself"),
    "weights": ({"sam2_checkpoint": "absent.pt"}, [], "fold 0, seed 0: there is no file absent.pt"),
    "jobs": ({}, ["--jobs", "0"], "jobs must be at least 1, got 0"),
    "data": ({}, ["--dataset_dir", "absent"], "absent; give the folder of the data set as --dataset_dir"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_mistakes_are_one_line_before_anything_runs(
    name: str, hearts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, arguments, message = ERRORS[name]
    assert main([*of_hearts(hearts, tmp_path / "out", **settings), *arguments]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not list((tmp_path / "out").glob("fold*"))


@pytest.mark.parametrize(
    ("configs", "message"),
    [({}, "there are no configs/train.json"), ({"train": {}, "evaluate": {}}, "other knows no folds: its train.json")],
    ids=["no bundle", "no folds"],
)
def test_a_bundle_without_folds_is_refused(
    configs: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other" / "configs").mkdir(parents=True)
    for name, content in configs.items():
        (tmp_path / "other" / "configs" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    assert main(command(tmp_path, tmp_path / "out", bundle=tmp_path / "other")) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_killed_it_goes_on_and_ends_with_a_command_that_runs(hearts: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    arguments = of_hearts(hearts, output, epochs=3)
    words = [sys.executable, "-m", "monai_sam2adapter", *arguments]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        until = time.monotonic() + 400
        while not (output / "fold_1" / "models" / "last.pt").exists() and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGTERM)
        out, _ = process.communicate()
    assert process.returncode == 130, out
    assert "run the same command again to go on" in out
    assert (output / "fold_0" / "result.json").is_file()
    assert not (output / "fold_1" / "result.json").exists()
    first = (output / "fold_0" / "models" / "model.pt").stat().st_mtime_ns

    again = subprocess.run(words, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "1 of 2 are finished already." in again.stdout
    assert (output / "fold_0" / "models" / "model.pt").stat().st_mtime_ns == first
    assert "--resume True" in (output / "fold_1" / "log.txt").read_text(encoding="utf-8")
    assert [row["state"] for row in table(output / "folds.csv")] == ["finished", "finished"]

    # the Dice of all cases, from what each fold's network gives for its own patient
    scores = []
    for number in range(2):
        checkpoint = output / f"fold_{number}" / "models" / "model.pt"
        for case in data.acdc_datalist(hearts, "test", number, hearts / "split.json"):
            predict(again.stdout, case["image"], tmp_path / "alone", str(checkpoint))
            found = np.asarray(nib.load(tmp_path / "alone" / f"{case['case']}_seg.nii.gz").dataobj)
            truth = np.asarray(nib.load(case["label"]).dataobj)
            pairs = [(found == k, truth == k) for k in (1, 2, 3)]
            scores.append([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs])
    by_class = {row["class"]: row for row in table(output / "pooled/summary.csv") if row["metric"] == "dice"}
    for name, column in zip(CLASSES, np.array(scores).T, strict=True):
        assert float(by_class[name]["mean"]) == pytest.approx(column.mean(), abs=1e-5)
        assert float(by_class[name]["std"]) == pytest.approx(column.std(), abs=1e-5)
    predict(again.stdout, case["image"], tmp_path / "ensemble")
    assert len(list((tmp_path / "ensemble").glob("*_seg.nii.gz"))) == 1


def predict(printed: str, image: str, output_dir: Path, checkpoint_file: str | None = None) -> None:
    """Run the command that was printed last, on an image."""
    *_, last = printed.strip().splitlines()
    words = shlex.split(last.replace("IMAGES", image).replace("SEGMENTATIONS", str(output_dir)))
    if checkpoint_file is not None:
        words[words.index("--checkpoint_file") + 1] = checkpoint_file
    done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
