# SPDX-License-Identifier: Apache-2.0
"""The options for speed and memory change no result. Inductor is left out of ``--compile True``: it takes minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_runs import load, parse, read, run, train

from monai_sam2adapter.networks import compiling

FAST_BUNDLES = {"acdc_cardiac_segmentation"}


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was compiled."""
    found: list[Any] = []

    def compile_graph(graph: Any, inputs: Any, options: Any) -> Any:
        found.append(graph)
        return graph.forward

    torch._dynamo.reset()
    monkeypatch.setattr(torch._inductor, "compile", compile_graph)
    return found


def test_all_runs_compile_the_network_and_give_the_same(
    graphs: list[Any], bundle: Path, options: dict[str, Any], trained: Path, evaluated: Path, tmp_path: Path
) -> None:
    train(bundle, output_dir=tmp_path / "models", **{**options, "train#trainer#epoch_length": 2, "compile": True})
    assert len(graphs) >= 2  # training and validation
    torch.testing.assert_close(load(tmp_path / "models/model.pt"), load(trained))
    graphs.clear()
    places = {"checkpoint_file": trained, "output_dir": tmp_path / "eval"}
    run(bundle, "evaluating", "train", "evaluate", **places, **options, compile=True)
    assert len(graphs) > 0
    assert (tmp_path / "eval/cases.csv").read_text() == (evaluated / "cases.csv").read_text()


@pytest.mark.parametrize("fails", [False, True], ids=["compiled", "failing"])
def test_inference(
    graphs: list[Any], fails: bool, bundle: Path, options: dict[str, Any], trained: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Results are the same to the byte."""
    warnings: list[Any] = []
    monkeypatch.setattr(compiling.logger, "warning", lambda *args: warnings.append(args))
    if fails:
        monkeypatch.setattr(torch._inductor, "compile", lambda *args: 1 / 0)
    known = read(bundle, "inference")
    given = {key: value for key, value in options.items() if key in known and key != "dataset_dir"}
    cases = sorted(Path(options["dataset_dir"]).rglob("*.nii*")) or sorted(
        path for path in Path(options["dataset_dir"]).rglob("*") if path.suffix in (".png", ".jpg", ".tif")
    )
    case = str(cases[0])
    results = []
    for compiled in (False, True):
        output_dir = tmp_path / str(compiled)
        places = {"checkpoint_file": trained, "output_dir": output_dir, "dataset_dir": case}
        run(bundle, "inference", "inference", **places, **given, compile=compiled)
        files = [path for path in sorted(output_dir.rglob("*")) if path.is_file()]
        results.append({path.relative_to(output_dir): path.read_bytes() for path in files if path.suffix != ".json"})
    assert results[0].keys() == results[1].keys()
    assert results[0] == results[1]
    assert (len(graphs) > 0) != fails
    text = "torch.compile failed, so the network runs without it: %s"
    assert warnings == ([(text, "division by zero")] if fails else [])


@pytest.mark.parametrize(
    "sparing",
    [{"batch_size": 1, "accumulation_steps": 2}, {"activation_checkpointing": True}],
    ids=["accumulation", "checkpointing"],
)
def test_what_saves_memory_trains_the_same(
    sparing: dict[str, Any], bundle: Path, options: dict[str, Any], tmp_path: Path
) -> None:
    """By a loss that is a mean over the batch, two batches of one are one of two; no part of the data has less."""
    common = {**options, "adapter": "lora", "train#optimizer": "%sgd", "val_interval": 9}
    parameters = "$[p for p in @network.parameters() if p.requires_grad]"
    common["sgd"] = {"_target_": "torch.optim.SGD", "params": parameters, "lr": "@learning_rate"}
    common["learning_rate"] = 0.1
    if "sam2_unext" not in bundle.name:
        common["train#loss"] = {"_target_": "monai.losses.DiceCELoss", "to_onehot_y": True, "lambda_dice": 0.0}
        common["train#loss"]["softmax"] = True
    elif "accumulation_steps" in sparing:
        pytest.skip("its BatchNorm layers see each batch by itself")
    states = []
    for name, chosen, batches in (("plain", {"batch_size": 2}, 1), ("sparing", {"batch_size": 2, **sparing}, 2)):
        length = batches if "accumulation_steps" in chosen else 1
        train(bundle, output_dir=tmp_path / name, **{**common, **chosen, "train#trainer#epoch_length": length})
        states.append(load(tmp_path / name / "last.pt")["network"])
    assert any(value.any() for name, value in states[0].items() if name.endswith("lora.qkv.1.weight"))  # zero at first
    torch.testing.assert_close(states[1], states[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("device", "expected"), [("cpu", False), ("cuda", True), ("cuda:1", True)])
def test_the_optimizer_is_fused_and_memory_pinned_on_cuda(device: str, expected: bool, bundle: Path) -> None:
    parser = parse(bundle, "train", device=device)
    for key in ("optimizer#fused", "dataloader#pin_memory"):
        assert parser.get_parsed_content(f"train#{key}") is expected


def test_frozen_weights_are_cast_on_request_and_files_hold_them_in_full(
    bundle: Path, options: dict[str, Any], trained: Path, tmp_path: Path
) -> None:
    """Training, its last epoch resumed from model.pt alone, evaluation, and inference."""
    models = tmp_path / "models"
    options = {**options, "frozen_dtype": "bfloat16", "train#trainer#epoch_length": 2}
    train(bundle, output_dir=models, **options)
    state = load(models / "model.pt")
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}
    frozen = state.keys() - load(models / "last.pt")["network"].keys()
    full = load(trained)
    torch.testing.assert_close({k: state[k] for k in frozen}, {k: full[k] for k in frozen}, rtol=0, atol=0)
    train(bundle, output_dir=models, **{**options, "resume": True, "epochs": 2, "sam2_checkpoint": None})
    assert load(models / "last.pt")["epoch"] == 2
    evaluation = {key: value for key, value in options.items() if "epoch" not in key}
    places = {"checkpoint_file": models / "last.pt", "output_dir": tmp_path / "eval"}
    run(bundle, "evaluating", "train", "evaluate", **places, **evaluation)
    assert (tmp_path / "eval/results.json").is_file()
    parser = parse(bundle, "inference", checkpoint_file=str(trained), frozen_dtype="bfloat16", **smallest_of(options))
    parser.get_parsed_content("evaluator#network")
    assert parser.get_parsed_content("network_def").frozen_dtype == torch.bfloat16


def smallest_of(options: dict[str, Any]) -> dict[str, Any]:
    """Those that inference has, too."""
    return {key: value for key, value in options.items() if key in ("dino_variant", "dino_size", "adapter", "variant")}
