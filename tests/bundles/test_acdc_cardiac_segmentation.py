# SPDX-License-Identifier: Apache-2.0
"""The ACDC bundle from training to prediction, on phantoms, as MONAI's command line runs it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import monai.bundle
import pytest
import torch
from monai.bundle import ConfigParser

from monai_sam2adapter.data import write_acdc_phantom

BUNDLE = Path(__file__).parents[2] / "bundles" / "acdc_cardiac_segmentation"
CONFIGS = BUNDLE / "configs"
TRAIN, EVALUATE, INFERENCE, METADATA = (
    str(CONFIGS / f"{name}.json") for name in ("train", "evaluate", "inference", "metadata")
)
# The smallest network that trains: nothing here is about accuracy.
SMALL = {"adapter": "full", "image_size": 32, "batch_size": 4, "device": "cpu"}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("acdc")
    write_acdc_phantom(folder, num_train=2, num_val=1, num_test=1, progress=False)
    return folder


def run(run_id: str, config_file: str | list[str], phantom: Path, **options: Any) -> None:
    defaults = {"bundle_root": str(BUNDLE), "dataset_dir": str(phantom), **SMALL}
    monai.bundle.run(run_id=run_id, config_file=config_file, **{**defaults, **options})


def train(phantom: Path, output_dir: Path, **options: Any) -> None:
    defaults = {"output_dir": str(output_dir), "epochs": 1, "learning_rate": 1e-3, "num_workers": 0}
    run("training", TRAIN, phantom, **{**defaults, **options})


def causes(error: BaseException | None) -> list[str]:
    """MONAI wraps an error of an expression in one of its own."""
    return [] if error is None else [str(error), *causes(error.__cause__)]


@pytest.fixture(scope="module")
def trained(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output_dir = tmp_path_factory.mktemp("models")
    train(phantom, output_dir)
    return output_dir


class TestTraining:
    def test_writes_best_and_last_checkpoint_and_pictures_for_tensorboard(self, trained: Path) -> None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        state = torch.load(trained / "model.pt", weights_only=True)
        assert all(isinstance(value, torch.Tensor) for value in state.values())
        assert torch.load(trained / "last.pt", weights_only=True)["epoch"] == 1
        events = EventAccumulator(str(trained / "tensorboard"))
        events.Reload()
        assert {"train_loss", "dice"} <= {tag.split("/")[-1] for tag in events.Tags()["scalars"]}
        assert len(events.Tags()["images"]) == 2  # both frames of the one validation patient

    def test_resumes_where_it_stopped(self, phantom: Path, tmp_path: Path) -> None:
        whole, parts = tmp_path / "whole", tmp_path / "parts"
        train(phantom, whole, epochs=2)
        train(phantom, parts, epochs=2, val_interval=5, **{"train#trainer#max_epochs": 1})
        train(phantom, parts, epochs=2, resume=True)
        ends = [torch.load(folder / "last.pt", weights_only=True) for folder in (whole, parts)]
        for key in ("epoch", "iteration", "lr_scheduler"):
            assert ends[0][key] == ends[1][key]
        assert [group["lr"] for group in ends[0]["optimizer"]["param_groups"]] == [
            group["lr"] for group in ends[1]["optimizer"]["param_groups"]
        ]
        steps = [next(iter(end["optimizer"]["state"].values()))["step"] for end in ends]
        assert steps[0] == steps[1] > 0

    def test_does_not_overwrite_an_earlier_run(self, phantom: Path, trained: Path) -> None:
        before = (trained / "last.pt").stat().st_mtime_ns
        with pytest.raises(RuntimeError) as error:
            train(phantom, trained, overwrite="false", resume="False", amp="false")  # words, as the command line gives
        assert "--resume True" in str(error.value.__cause__)
        assert (trained / "last.pt").stat().st_mtime_ns == before

    def test_without_weights_says_how_to_get_them(self, phantom: Path, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError) as error:
            train(phantom, tmp_path / "run", adapter="hp")
        assert "python -m monai_sam2adapter download sam2.1_hiera_tiny" in str(error.value.__cause__)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("adapter", ["hp", "lw", "lora", "none"])
    def test_trains_adapters_on_a_frozen_trunk(self, adapter: str, phantom: Path, tmp_path: Path) -> None:
        train(phantom, tmp_path, adapter=adapter, sam2_checkpoint="random", seed=3)
        monai.utils.set_determinism(3)
        config = ConfigParser(ConfigParser.load_config_file(TRAIN))
        config.update({**SMALL, "adapter": adapter})
        network = config.get_parsed_content("network_def")
        saved = torch.load(tmp_path / "model.pt", weights_only=True)
        moved = {name for name, start in network.state_dict().items() if not torch.equal(start, saved[name])}
        assert moved
        assert moved <= network.added_state_names()

    def test_stops_on_a_loss_that_is_not_finite(self, phantom: Path, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError) as error:
            train(phantom, tmp_path, learning_rate=1e20)
        assert "training stopped" in str(error.value.__cause__)
        assert not (tmp_path / "last.pt").exists()

    @pytest.mark.parametrize(
        ("options", "names"),
        [({"adapter": "hpp"}, ["hp", "lw", "none", "full"]), ({"variant": "medium"}, ["tiny", "small", "large"])],
        ids=["adapter", "variant"],
    )
    def test_a_misspelt_option_is_answered_with_those_that_exist(
        self, options: dict[str, str], names: list[str], phantom: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(RuntimeError) as error:
            train(phantom, tmp_path / "run", **options)
        assert all(name in " ".join(causes(error.value)) for name in names)


class TestEvaluation:
    def test_writes_every_case_and_a_summary(self, phantom: Path, trained: Path, tmp_path: Path) -> None:
        options = {"checkpoint_file": str(trained / "model.pt"), "output_dir": str(tmp_path)}
        run("evaluating", [TRAIN, EVALUATE], phantom, **options)
        with (tmp_path / "cases.csv").open(newline="", encoding="utf-8") as file:
            cases = list(csv.DictReader(file))
        assert len(cases) == 2 * 3
        assert {row["class"] for row in cases} == {"right ventricle", "myocardium", "left ventricle"}
        transunet = {"dice_transunet", "hd95_transunet"}
        assert set(cases[0]) == {"case", "class", "dice", "iou", "hd95_mm", "asd_mm"} | transunet
        assert all(0 <= float(row["dice"]) <= 1 for row in cases)
        with (tmp_path / "summary.csv").open(newline="", encoding="utf-8") as file:
            summary = {(row["metric"], row["class"]): row for row in csv.DictReader(file)}
        assert summary["dice", "myocardium"]["n_valid"] == "2"
        assert 0 <= float(summary["miou_pooled", "mean"]["mean"]) <= 1
        results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
        assert results["about"]["split"] == "test"
        assert "left ventricle" in (tmp_path / "report.html").read_text(encoding="utf-8")
        assert len(list((tmp_path / "overlays").glob("*.png"))) == 2

    def test_weights_of_other_options_are_refused(self, phantom: Path, trained: Path, tmp_path: Path) -> None:
        options = {"checkpoint_file": str(trained / "model.pt"), "output_dir": str(tmp_path), "adapter": "lw"}
        with pytest.raises(RuntimeError) as error:
            run("evaluating", [TRAIN, EVALUATE], phantom, **options)
        assert "adapter none or full" in str(error.value.__cause__)
        assert "adapter lw" in str(error.value.__cause__)

    def test_missing_weights_are_named(self, phantom: Path, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError) as error:
            run("evaluating", [TRAIN, EVALUATE], phantom, checkpoint_file=str(tmp_path / "no.pt"))
        assert "no trained weights at" in str(error.value.__cause__)


class TestCommandLine:
    def test_the_commands_of_the_readme(self, phantom: Path, tmp_path: Path) -> None:
        common = [
            *("--logging_file", str(CONFIGS / "logging.conf"), "--bundle_root", str(BUNDLE), "--dataset_dir", phantom),
            *("--adapter", "full", "--variant", "tiny", "--positional_encoding", "sam2", "--image_size", "[32,48]"),
            *("--batch_size", "2", "--amp", "False", "--device", "cpu"),
        ]
        models, weights = tmp_path / "models", ["--checkpoint_file", tmp_path / "models" / "model.pt"]
        training = ["training", "--config_file", TRAIN, "--output_dir", models, "--epochs", "1", "--num_workers", "1"]
        bundle(*training, "--learning_rate", "0.001", *common)
        bundle(*training[:-4], "--epochs", "2", *common, "--resume")
        evaluating = ["evaluating", "--config_file", f"['{TRAIN}','{EVALUATE}']", "--output_dir", tmp_path / "eval"]
        log = bundle(*evaluating, *weights, *common)
        assert "left ventricle" in log
        bundle("inference", "--config_file", INFERENCE, "--output_dir", tmp_path / "prediction", *weights, *common)
        assert torch.load(models / "last.pt", weights_only=True)["epoch"] == 2
        assert (tmp_path / "eval" / "summary.csv").is_file()
        assert len(list((tmp_path / "prediction").rglob("*_seg.nii.gz"))) == 8  # 4 patients, 2 frames


def bundle(run_id: str, *arguments: str | Path) -> str:
    command = [sys.executable, "-m", "monai.bundle", "run", run_id, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
