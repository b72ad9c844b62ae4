# SPDX-License-Identifier: Apache-2.0
"""Training on two machines and evaluation in two processes, started by torchrun as a user does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import ignite.distributed as idist
import pytest
from bundle_runs import ACDC, config_of, load, run
from monai.bundle import ConfigWorkflow
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from monai_sam2adapter.data import EpochSampler, SeededIndex, VolumeSliceDataset, write_acdc_phantom

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


def torchrun(run_id: str, config_file: list[str], nodes: int = 1, **options: object) -> subprocess.CompletedProcess:
    """Two processes of one machine, or one of each of two machines, which are this one: their launchers meet by TCP."""
    arguments = ["-m", "monai.bundle", "run", run_id, "--config_file", str(config_file)]
    arguments += [text for key, value in options.items() for text in (f"--{key}", str(value))]
    launcher = [sys.executable, "-m", "torch.distributed.run"]
    # as on a machine without GPUs: two processes cannot share the only one
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    if nodes == 1:
        command = [*launcher, "--standalone", "--nproc_per_node", "2", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    launcher += ["--nnodes", str(nodes), "--nproc_per_node", "1", "--rdzv_backend", "c10d", "--rdzv_endpoint", endpoint]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    machines = [subprocess.Popen([*launcher, *arguments], env=environment, **pipes) for _ in range(nodes)]
    try:
        outputs = [machine.communicate(timeout=300)[0] for machine in machines]
    finally:
        for machine in machines:
            machine.kill()
    code = max(abs(machine.returncode) for machine in machines)
    return subprocess.CompletedProcess(launcher, code, "".join(outputs), "".join(outputs))


def train(dataset_dir: Path, output_dir: Path, **options: object) -> subprocess.CompletedProcess:
    options = {**OPTIONS, **TRAINING, "dataset_dir": dataset_dir, "output_dir": output_dir, **options}
    return torchrun("training", config_of(ACDC, "train", "multi_gpu_train"), nodes=2, **options)


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


@pytest.mark.slow
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


# Dice over a batch, and BatchNorm, depend on what lies in a batch together: each process sees its own
PER_ITEM = {"adapter": "hp", "train#loss#batch": False, "accumulation_steps": 2, "epochs": 2, "val_interval": 2}
PER_ITEM["learning_rate"] = 1e-4  # Adam makes much of rounding errors in gradients that are nearly 0


def losses(output_dir: Path) -> list[float]:
    """The curve that TensorBoard shows."""
    (folder,) = {path.parent for path in output_dir.rglob("events.out.*")}
    events = EventAccumulator(str(folder)).Reload()
    return [event.value for event in events.Scalars("train_loss")]


def train_in_one_process(dataset_dir: Path, output_dir: Path) -> list[float]:
    options = {**OPTIONS, **TRAINING, **PER_ITEM, "batch_size": 2, "device": "cpu", "bundle_root": str(ACDC)}
    run(ACDC, "training", "train", dataset_dir=dataset_dir, output_dir=output_dir, **options)
    return losses(output_dir)


@pytest.mark.slow
def test_two_machines_have_the_loss_curve_of_one_process(dataset_dir: Path, tmp_path: Path) -> None:
    done = train(dataset_dir, tmp_path / "two", **PER_ITEM, batch_size=1)
    assert done.returncode == 0, done.stdout
    expected = train_in_one_process(dataset_dir, tmp_path / "one")
    assert len(expected) > 10
    assert losses(tmp_path / "two") == pytest.approx(expected, abs=1e-4)


def shard_of(rank: int, monkeypatch: pytest.MonkeyPatch, whole: VolumeSliceDataset) -> VolumeSliceDataset:
    """What one of two processes has."""
    monkeypatch.setattr(idist, "get_world_size", lambda: 2)
    monkeypatch.setattr(idist, "get_rank", lambda: rank)
    options = {"volume_transform": whole.volume_transform, "transform": whole.deterministic_transform}
    return VolumeSliceDataset(whole.data, **options, progress=False, shard=True)


@pytest.mark.slow
def test_shards_have_the_loss_curve_of_one_process_that_draws_the_same_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset_dir = tmp_path / "acdc"
    write_acdc_phantom(dataset_dir, num_train=2, num_val=1, num_test=0, progress=False)
    done = train(dataset_dir, tmp_path / "two", **PER_ITEM, batch_size=1, shard_cache=True)
    assert done.returncode == 0, done.stdout

    draw, count = EpochSampler.__iter__, EpochSampler.__len__

    def draw_in_turn(sampler: EpochSampler) -> Iterator[SeededIndex]:
        whole = sampler.dataset
        names = [(item["case"], item["slice_index"]) for item in whole]
        with monkeypatch.context() as patch:
            shards = [shard_of(rank, patch, whole) for rank in range(2)]
            patch.setattr(idist, "all_reduce", lambda count: len(whole))
            samplers = [EpochSampler(shard, 2, rank, seed=sampler.seed) for rank, shard in enumerate(shards)]
        assert all(0 < len(shard.data) < len(whole.data) for shard in shards)
        for one in samplers:
            one.set_epoch(sampler.epoch)
        for indices in zip(*map(draw, samplers), strict=True):
            for shard, index in zip(shards, indices, strict=True):
                yield SeededIndex(names.index((shard[index]["case"], shard[index]["slice_index"])), index.seed)

    monkeypatch.setattr(EpochSampler, "__iter__", draw_in_turn)
    monkeypatch.setattr(EpochSampler, "__len__", lambda sampler: 2 * -(-count(sampler) // 2))
    expected = train_in_one_process(dataset_dir, tmp_path / "one")
    assert losses(tmp_path / "two") == pytest.approx(expected, abs=1e-4)
