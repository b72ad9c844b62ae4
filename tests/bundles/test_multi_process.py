# SPDX-License-Identifier: Apache-2.0
"""Training and evaluation in two processes, started by torchrun as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bundle_runs import ACDC, config_of, load, run
from monai.bundle import ConfigWorkflow

from monai_sam2adapter.data import write_acdc_phantom

# lw has BatchNorm, whose statistics each process computes for itself
OPTIONS = {"adapter": "lw", "image_size": 32, "batch_size": 4, "num_workers": 0, "bundle_root": str(ACDC)}
# A high learning rate changes the statistics much, and a metric of the logits sees every change of the network.
LOGITS_METRIC = {
    "validate#key_metric#dice#metric_fn": {"_target_": "monai.metrics.MSEMetric"},
    "validate#inferer#postprocessing": "$None",  # MONAI drops a plain None
    "validate#postprocessing#transforms#0#_disabled_": True,
}
TRAINING = {"sam2_checkpoint": "random", "learning_rate": 0.01, "epochs": 1, **LOGITS_METRIC}


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("acdc")
    # three cases for two processes: patients have two, one of which is removed
    write_acdc_phantom(folder, num_train=1, num_val=2, num_test=0, progress=False)
    for path in sorted((folder / "training" / "patient015").glob("*_frame01*")):
        path.unlink()
    return folder


def torchrun(run_id: str, config_file: list[str], **options: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "monai.bundle", "run", run_id, "--config_file", str(config_file)]
    for key, value in options.items():
        command += [f"--{key}", str(value)]
    # as on a machine without GPUs: two processes cannot share the only one
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def train(dataset_dir: Path, output_dir: Path, **options: object) -> subprocess.CompletedProcess:
    options = {**OPTIONS, **TRAINING, "dataset_dir": dataset_dir, "output_dir": output_dir, **options}
    return torchrun("training", config_of(ACDC, "train", "multi_gpu_train"), **options)


@pytest.fixture(scope="module")
def trained(dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output_dir = tmp_path_factory.mktemp("models")
    done = train(dataset_dir, output_dir)
    assert done.returncode == 0, done.stdout + done.stderr
    return output_dir


def test_training_validates_as_one_process_does(dataset_dir: Path, trained: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, **TRAINING, "dataset_dir": str(dataset_dir), "output_dir": str(tmp_path), "device": "cpu"}
    workflow = ConfigWorkflow(config_of(ACDC, "train"), workflow_type="train", **options)
    workflow.initialize()
    workflow.network_def.load_state_dict(load(trained / "model.pt"))
    evaluator = workflow.evaluator
    evaluator.run()
    state = load(trained / "last.pt")
    assert state["epoch"] == 1
    assert state["network"].keys() < load(trained / "model.pt").keys()
    assert state["best_metric"] == pytest.approx(evaluator.state.metrics["dice"], rel=1e-5)


def test_only_the_first_process_writes(trained: Path) -> None:
    assert sorted(path.name for path in trained.iterdir()) == [".lock", "last.pt", "model.pt", "tensorboard"]
    assert len(list((trained / "tensorboard").iterdir())) == 1


def test_evaluation_counts_each_case_once(dataset_dir: Path, trained: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, "dataset_dir": dataset_dir, "split": "val", "checkpoint_file": trained / "model.pt"}
    one, two = tmp_path / "one", tmp_path / "two"
    run(ACDC, "evaluating", "train", "evaluate", **options, output_dir=one)
    done = torchrun("evaluating", config_of(ACDC, "train", "evaluate", "multi_gpu_evaluate"), **options, output_dir=two)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("cases.csv", "summary.csv"):
        expected = (one / name).read_text(encoding="utf-8")
        assert (two / name).read_text(encoding="utf-8") == expected
    cases = (two / "cases.csv").read_text(encoding="utf-8").splitlines()
    assert len(cases) == 1 + 3 * 3  # three cases of three classes


@pytest.mark.slow
def test_resumes(dataset_dir: Path, trained: Path) -> None:
    done = train(dataset_dir, trained, epochs=2, resume=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert load(trained / "last.pt")["epoch"] == 2


@pytest.mark.slow
def test_an_error_in_one_process_ends_the_other(dataset_dir: Path, tmp_path: Path) -> None:
    wrong = "$8 * (1 - 2 * idist.get_rank())"  # in the second process a batch size that the loader refuses
    done = train(dataset_dir, tmp_path, **{"train#dataloader#batch_size": wrong})
    assert done.returncode != 0
    assert "batch_size should be a positive integer value" in done.stderr
    assert not list(tmp_path.glob("*.pt"))
