# SPDX-License-Identifier: Apache-2.0
"""``compare`` as a user runs it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import monai.bundle
import pytest
import torch

from monai_sam2adapter import data
from monai_sam2adapter.__main__ import main
from monai_sam2adapter.comparison import ComparisonConfig, adapter_methods

ROOT = Path(__file__).parents[2]
CONTENT: dict[str, Any] = {
    "title": "A small comparison",
    "seeds": [0],
    "options": {"num_workers": 0, "batch_size": 4, "device": "cpu", "train#trainer#epoch_length": 1, "epochs": 1},
    "datasets": {
        "hearts": {
            "bundle": "acdc_cardiac_segmentation",
            "phantom": {"kind": "acdc", "num_train": 1, "num_val": 1, "num_test": 1},
            "options": {"image_size": 32, "sam2_checkpoint": "random"},
        }
    },
    "methods": {"head only": {"adapter": "none"}, "fails": {"adapter": "none", "learning_rate": -1.0}},
}
TRUNK = {"dataset": "hearts", "options": {"adapter": "full", "positional_encoding": "sam2"}}


def write(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "comparison.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def compare(config: object, output: Path, *arguments: str) -> list[str]:
    """The command's arguments; bundles are found wherever the tests run."""
    places = ["--output_dir", str(output), "--bundles_dir", str(ROOT / "bundles")]
    return ["compare", "--config", str(config), *places, *arguments]


def table(output: Path, name: str) -> list[dict[str, str]]:
    with (output / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_scores_what_it_can_reports_what_fails_and_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert main(compare(write(tmp_path, CONTENT), output, "--jobs", "2")) == 1
    out, err = capfd.readouterr()
    assert "failed: hearts, fails, seed 0: learning_rate must be a number above 0, got -1.0" in err
    assert "A small comparison: 2 trainings (2 networks, 1 seeds)." in out
    scored, failed = table(output, "results.csv")
    assert (scored["state"], failed["state"]) == ("finished", "failed")
    assert 0 < float(scored["score"]) < 1
    assert failed["error"].startswith("learning_rate must be a number above 0")
    by_method = {row["method"]: row for row in table(output, "table.csv")}
    assert float(by_method["head only"]["mean"]) == float(scored["score"])
    assert int(by_method["head only"]["macs"]) > 0
    text = (output / "table.md").read_text(encoding="utf-8")
    assert "| head only |" in text
    assert "1 of 2 trainings have no score" in text
    assert (output / "plot.png").stat().st_size > 1000
    assert (output / "plot.svg").read_text(encoding="utf-8").startswith("<?xml")

    # again: what is finished stays, what failed is tried again
    result = next(output.glob("cells/hearts/head only/seed_0/result.json"))
    before = result.stat().st_mtime_ns
    assert main(compare(write(tmp_path, CONTENT), output)) == 1
    assert result.stat().st_mtime_ns == before
    assert "1 of 2 are finished already." in capfd.readouterr().out


ERRORS = {
    "--config quik": "there is no file quik; give a JSON file or one of the presets cross, gsam",
    "--config cross": "ACDC needs the folder of its data: add --dataset ACDC=FOLDER",
    "--config cross --dataset ACDC": "--dataset ACDC must be NAME=FOLDER",
    "--config cross --dataset ACDC=absent": "the folder of ACDC, absent, does not exist",
    "--config cross --dataset acdc=absent": "the data set is 'acdc', which is unknown; did you mean ACDC?",
    "--config quick --set epochs": "--set epochs must be KEY=VALUE",
    "--config quick --seeds 1 1": "seeds must be different whole numbers from 0",
    "--config quick --jobs 0": "jobs must be at least 1, got 0",
    "--config quick --macs_budget 8": "--bundle and --macs_budget go with --choose",
    "--choose --config quick": "--choose takes one data set, got ACDC phantoms, ",
    "--choose --bundle acdc_cardiac_segmentation": "--bundle takes one --dataset NAME=FOLDER",
}


@pytest.mark.parametrize("arguments", ERRORS)
def test_errors_are_one_line_and_exit_with_2(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *arguments.split()]) == 2
    assert f"error: {ERRORS[arguments]}" in capsys.readouterr().err.splitlines()[-1]


def test_a_misspelled_key_is_found_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = compare(write(tmp_path, CONTENT), tmp_path / "out", "--set", "imagesize=64")
    assert main(arguments) == 2
    assert "has no key 'imagesize' (option imagesize); did you mean image_size?" in capsys.readouterr().err
    assert not (tmp_path / "out" / "cells").exists()


@pytest.mark.slow
def test_a_stopped_comparison_goes_on_with_its_trunk(tmp_path: Path) -> None:
    methods = {"head only": {"adapter": "none"}, "lw": {"adapter": "lw"}}
    content = {**CONTENT, "methods": methods, "trunks": {"t": TRUNK}}
    content["datasets"] = {"hearts": {**CONTENT["datasets"]["hearts"], "trunk": "t", "options": {"image_size": 32}}}
    output = tmp_path / "out"
    command = [sys.executable, "-m", "monai_sam2adapter", *compare(write(tmp_path, content), output, "--jobs", "1")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 300
        while not list(output.glob("cells/hearts/*/seed_0/result.json")) and time.monotonic() < until:
            time.sleep(0.1)
        assert (output / "trunks" / "t" / "trunk.pt").is_file()
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        assert second.returncode == 2
        assert "another run writes to" in second.stderr
        os.kill(process.pid, signal.SIGTERM)
        _, err = process.communicate()
    assert process.returncode == 130, err
    assert "run the same command again to go on" in err
    trunk = (output / "trunks" / "t" / "trunk.pt").stat().st_mtime_ns

    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "1 of 2 are finished already." in again.stdout
    assert (output / "trunks" / "t" / "trunk.pt").stat().st_mtime_ns == trunk
    assert [row["state"] for row in table(output, "results.csv")] == ["finished", "finished"]
    assert "adapts the trunk t, trained on hearts first" in (output / "table.md").read_text(encoding="utf-8")

    other = subprocess.run([*command, "--set", "batch_size=2"], capture_output=True, text=True, check=False)
    assert other.returncode == 2
    assert "with other settings: batch_size was 4, is 2" in other.stderr


@pytest.mark.slow
def test_the_chosen_adapter_is_one_that_the_bundle_takes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle, hearts, output = ROOT / "bundles" / "acdc_cardiac_segmentation", tmp_path / "hearts", tmp_path / "out"
    data.write_acdc_phantom(hearts, num_train=1, num_val=1, num_test=1, progress=False)
    settings = {**CONTENT["options"], "image_size": 32, "sam2_checkpoint": "random", "epochs": 2}
    arguments = [
        *(
            "compare",
            "--choose",
            "--macs_budget",
            "0.116",
            "--bundle",
            bundle.name,
            "--bundles_dir",
            str(bundle.parent),
        ),
        *("--dataset", f"hearts={hearts}", "--output_dir", str(output)),
        *(word for key, value in settings.items() for word in ("--set", f"{key}={value}")),
    ]
    assert main(arguments) == 0
    rows = table(output, "race.csv")
    assert {row["method"] for row in rows} == adapter_methods().keys()
    assert 2 < sum(float(row["macs"]) <= 0.116e9 for row in rows) < len(rows)
    assert f"Chosen: {rows[0]['method']}. " in capfd.readouterr().out
    choice = json.loads((output / "choice.json").read_text(encoding="utf-8"))
    assert (choice["adapter"], choice["adapter_config"], choice["image_size"]) == (rows[0]["method"], {}, 32)
    assert not list(output.rglob("last.pt"))
    raced = next(output.glob(f"cells/hearts/{choice['adapter']}/seed_0/models/model.pt"))

    def run(run_id: str, *configs: str, **options: str) -> None:
        files = [*(str(bundle / "configs" / f"{name}.json") for name in configs), str(output / "choice.json")]
        files += [str(output / "choice_training.json")] if "train" in configs else []
        common = {"bundle_root": str(bundle), "device": "cpu", "num_workers": 0, "dataset_dir": str(hearts)}
        monai.bundle.run(run_id, config_file=files, **{**common, "output_dir": str(tmp_path / run_id), **options})

    # the winner trained by the bundle alone is what the race has trained
    run("training", "train", **{"train#trainer#epoch_length": 1})
    weights, own = (torch.load(path, weights_only=True) for path in (raced, tmp_path / "training" / "model.pt"))
    assert all(torch.equal(own[name], tensor) for name, tensor in weights.items())
    run("evaluating", "train", "evaluate", checkpoint_file=str(raced))
    scan = next(hearts.rglob("patient*_frame01.nii.gz"))
    run("inference", "inference", checkpoint_file=str(raced), dataset_dir=str(scan))
    assert (tmp_path / "evaluating" / "results.json").is_file()
    assert len(list((tmp_path / "inference").glob("*.nii.gz"))) == 1

    assert main(arguments) == 0  # again: nothing is trained
    assert capfd.readouterr().out.count("are finished already.") == 2


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["paper", "gsam"])
def test_presets_run_through(preset: str, tmp_path: Path) -> None:
    """On phantoms, with random weights and few steps: nothing here is about accuracy."""
    kinds = {"ISBI 2012": ("isbi2012", {"num_slices": 30}), "Kvasir-SEG": ("kvasir", {"num_images": 12})}
    few = {"num_train": 1, "num_val": 1, "num_test": 1}
    kinds |= {"Synapse": ("synapse", few), "ACDC": ("acdc", few)}
    arguments = []
    for name in ComparisonConfig.load(preset).datasets:
        kind, numbers = kinds[name]
        getattr(data, f"write_{kind}_phantom")(tmp_path / kind, progress=False, **numbers)
        arguments += ["--dataset", f"{name}={tmp_path / kind}"]
    settings = {"variant": "tiny", "sam2_checkpoint": "random", "epochs": 1, "image_size": 64, "device": "cpu"}
    settings |= {"num_workers": 0, "train#trainer#epoch_length": 1}
    arguments += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    # the crop of ISBI 2012 must fit into its smaller image
    content = json.loads(ComparisonConfig.presets()[preset].read_text(encoding="utf-8"))
    content["datasets"]["ISBI 2012"]["options"]["crop_size"] = 32
    output = tmp_path / "out"
    assert main(compare(write(tmp_path, content), output, "--seeds", "0", *arguments)) == 0
    rows = table(output, "results.csv")
    assert {row["state"] for row in rows} == {"finished"}
    assert len(rows) == 5 * len(content["datasets"])
