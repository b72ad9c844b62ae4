# SPDX-License-Identifier: Apache-2.0
"""The ACDC bundle from training to prediction, on a phantom, as MONAI's command line runs it."""

from __future__ import annotations

import csv
import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import monai
import pytest
import torch
from bundle_runs import ACDC, config_of, fails_with, load, parse, run, train

from monai_sam2adapter.data import write_acdc_phantom
from monai_sam2adapter.handlers import TrainingCheckpoint

LENGTH = "train#trainer#epoch_length"


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("acdc")
    write_acdc_phantom(folder, num_train=1, num_val=1, num_test=1, progress=False)
    return folder


@pytest.fixture(scope="module")
def trained(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output_dir = tmp_path_factory.mktemp("models")
    train(ACDC, phantom, output_dir)
    return output_dir


class TestTraining:
    def test_writes_pictures_and_scores_for_tensorboard(self, trained: Path) -> None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(trained / "tensorboard"))
        events.Reload()
        assert {"train_loss", "dice"} <= {tag.split("/")[-1] for tag in events.Tags()["scalars"]}
        assert len(events.Tags()["images"]) == 2  # both frames of the one validation patient

    @pytest.mark.parametrize(
        "again",
        [pytest.param("random", id="same_seed", marks=pytest.mark.slow), pytest.param(None, id="base_of_model.pt")],
    )
    def test_a_resumed_run_ends_as_one_that_was_not_interrupted(
        self, again: str | None, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save = TrainingCheckpoint._save_last

        def stop(checkpoint: TrainingCheckpoint, trainer: Any) -> None:
            save(checkpoint, trainer)
            raise KeyboardInterrupt

        whole, parts = tmp_path / "whole", tmp_path / "parts"
        options = {"adapter": "hp", "epochs": 2}
        train(ACDC, phantom, whole, **options)
        monkeypatch.setattr(TrainingCheckpoint, "_save_last", stop)
        with pytest.raises(KeyboardInterrupt):
            train(ACDC, phantom, parts, **options)
        monkeypatch.undo()
        if again is None:
            monkeypatch.setattr(monai.utils, "set_determinism", lambda seed: torch.manual_seed(7))  # other weights
        train(ACDC, phantom, parts, **options, resume=True, sam2_checkpoint=again)
        ends, best = ([load(folder / name) for folder in (whole, parts)] for name in ("last.pt", "model.pt"))
        torch.testing.assert_close(*best, rtol=0, atol=0)
        for key in ("network", "optimizer", "lr_scheduler", "epoch", "iteration", "frozen_sha256"):
            assert str(ends[0][key]) == str(ends[1][key]), key

    def test_everything_can_be_trained_from_scratch(self, phantom: Path, tmp_path: Path) -> None:
        train(ACDC, phantom, tmp_path, adapter="full", sam2_checkpoint=None, **{LENGTH: 1})
        left_out = load(tmp_path / "model.pt").keys() - load(tmp_path / "last.pt")["network"].keys()
        assert {name.rpartition(".")[2] for name in left_out} == {
            "pos_embed",
            "pos_embed_window",
        }  # PEG's in their place

    def test_does_not_overwrite_an_earlier_run(self, phantom: Path, trained: Path) -> None:
        before = (trained / "last.pt").stat().st_mtime_ns
        with fails_with("--resume True", "--overwrite True"):
            train(ACDC, phantom, trained)
        assert (trained / "last.pt").stat().st_mtime_ns == before

    def test_mistakes_are_told_before_data_are_read(self, trained: Path, tmp_path: Path) -> None:
        nowhere = tmp_path / "no_data"
        with fails_with("of an earlier run"):
            train(ACDC, nowhere, trained)
        with fails_with("python -m monai_sam2adapter download sam2.1_hiera_tiny"):
            train(ACDC, nowhere, tmp_path / "run", adapter="hp", sam2_checkpoint=None)
        for options, names in (
            ({"adapter": "hpp"}, ("hp", "lw", "none", "full")),
            ({"variant": "medium"}, ("tiny", "small", "large")),
            ({"adapter_config": "ratio=0.5"}, ("adapter_config must be a dictionary", "got 'ratio=0.5'")),
        ):
            with fails_with(*names):
                train(ACDC, nowhere, tmp_path / "run", **options)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("adapter", ["hp", "lw", "lora", "none"])
    def test_trains_adapters_on_a_frozen_trunk(self, adapter: str, phantom: Path, tmp_path: Path) -> None:
        train(ACDC, phantom, tmp_path, adapter=adapter, seed=3, **{LENGTH: 1})
        monai.utils.set_determinism(3)
        network = parse(ACDC, "train", adapter=adapter).get_parsed_content("network_def")
        saved = load(tmp_path / "model.pt")
        moved = {name for name, start in network.state_dict().items() if not torch.equal(start, saved[name])}
        assert moved
        assert moved <= network.added_state_names()
        assert moved <= load(tmp_path / "last.pt")["network"].keys()

    def test_stops_on_a_loss_that_is_not_finite(self, phantom: Path, tmp_path: Path) -> None:
        with fails_with("training stopped"):
            train(ACDC, phantom, tmp_path, learning_rate=1e20)
        assert not (tmp_path / "last.pt").exists()


class TestEvaluation:
    def test_writes_every_case_and_a_summary(self, phantom: Path, trained: Path, tmp_path: Path) -> None:
        options = {"checkpoint_file": trained / "model.pt", "output_dir": tmp_path, "dataset_dir": phantom}
        run(ACDC, "evaluating", "train", "evaluate", **options)
        with (tmp_path / "cases.csv").open(newline="", encoding="utf-8") as file:
            cases = list(csv.DictReader(file))
        assert len(cases) == 2 * 3
        assert {row["class"] for row in cases} == {"right ventricle", "myocardium", "left ventricle"}
        transunet = {"dice_transunet", "hd95_transunet"}
        volumes = {"volume_predicted_ml", "volume_true_ml", "volume_difference_ml"}
        assert set(cases[0]) == {"case", "class", "dice", "iou", "hd95_mm", "asd_mm"} | transunet | volumes
        assert all(1 < float(row["volume_true_ml"]) < 500 for row in cases)  # a heart's chambers
        assert all(0 <= float(row["dice"]) <= 1 for row in cases)
        with (tmp_path / "summary.csv").open(newline="", encoding="utf-8") as file:
            summary = {(row["metric"], row["class"]): row for row in csv.DictReader(file)}
        assert summary["dice", "myocardium"]["n_valid"] == "2"
        assert 0 <= float(summary["miou_pooled", "mean"]["mean"]) <= 1
        results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
        assert results["about"]["split"] == "test"
        assert "left ventricle" in (tmp_path / "report.html").read_text(encoding="utf-8")
        assert len(list((tmp_path / "overlays").glob("*.png"))) == 2

    def test_other_weights_are_refused(self, phantom: Path, trained: Path, tmp_path: Path) -> None:
        options = {"dataset_dir": phantom, "output_dir": tmp_path}
        with fails_with("adapter none or full", "adapter lw"):
            weights = trained / "model.pt"
            run(ACDC, "evaluating", "train", "evaluate", checkpoint_file=weights, adapter="lw", **options)
        with fails_with("no trained weights at"):
            run(ACDC, "evaluating", "train", "evaluate", checkpoint_file=tmp_path / "no.pt", **options)


class TestCommandLine:
    @pytest.mark.parametrize(
        ("run_id", "names", "flag"),
        [
            ("training", ["train"], ["--amp", "false"]),
            ("training", ["train"], ["--resume", "yes"]),
            ("training", ["train"], ["--foreground_only", "false"]),
            ("evaluating", ["train", "evaluate"], ["--amp", "off"]),
            ("inference", ["inference"], ["--skip_existing", "no"]),
            ("inference", ["inference"], ["--largest_component", "false"]),
        ],
        ids=lambda value: value[0].strip("-") if isinstance(value, list) else None,
    )
    def test_a_flag_that_is_neither_true_nor_false_is_refused(
        self, run_id: str, names: list[str], flag: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """MONAI passes such words on as text, which would count as true."""
        files = str(config_of(ACDC, *names)).replace(" ", "")
        command = ["run", run_id, "--config_file", files, "--bundle_root", str(ACDC), *flag]
        monkeypatch.setattr(sys, "argv", ["monai.bundle", *command, "--output_dir", str(tmp_path)])
        name, value = flag[0].removeprefix("--"), flag[1]
        with fails_with(f"{name} must be True or False, got {value!r}; write {flag[0]} True or {flag[0]} False."):
            runpy.run_module("monai.bundle", run_name="__main__")
        assert not list(tmp_path.iterdir())

    @pytest.mark.slow
    def test_the_commands_of_the_readme(self, phantom: Path, tmp_path: Path) -> None:
        models, weights = tmp_path / "models", ["--checkpoint_file", tmp_path / "models" / "model.pt"]
        common = [
            *("--logging_file", ACDC / "configs" / "logging.conf", "--bundle_root", ACDC, "--dataset_dir", phantom),
            *("--adapter", "none", "--variant", "tiny", "--positional_encoding", "sam2", "--image_size", "[32,48]"),
            *("--batch_size", "2", "--amp", "False", "--device", "cpu"),
        ]
        training, inference = (["--config_file", config_of(ACDC, name)[0]] for name in ("train", "inference"))
        training += ["--output_dir", models, "--sam2_checkpoint", "random", "--learning_rate", "0.001"]
        command("training", *training, "--epochs", "1", "--num_workers", "1", *common)
        command("training", *training, "--epochs", "2", *common, "--resume")
        files = str(config_of(ACDC, "train", "evaluate")).replace(" ", "")
        log = command("evaluating", "--config_file", files, "--output_dir", tmp_path / "eval", *weights, *common)
        assert "left ventricle" in log
        command("inference", *inference, "--output_dir", tmp_path / "prediction", *weights, *common)
        assert load(models / "last.pt")["epoch"] == 2
        assert (tmp_path / "eval" / "summary.csv").is_file()
        assert len(list((tmp_path / "prediction").rglob("*_seg.nii.gz"))) == 6  # 3 patients, 2 frames


def command(run_id: str, *arguments: Any) -> str:
    line = [sys.executable, "-m", "monai.bundle", "run", run_id, *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
