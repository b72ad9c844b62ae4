# SPDX-License-Identifier: Apache-2.0
"""One cell trained and evaluated, resumed, and what it says when it fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import monai.bundle
import pytest
import torch

from monai_sam2adapter.comparison import ComparisonCell, worker
from monai_sam2adapter.comparison.worker import main, run_cell
from monai_sam2adapter.handlers import TrainingCheckpoint
from monai_sam2adapter.networks.nets import PromptFreeSAM2
from monai_sam2adapter.networks.weights import load_sam2_checkpoint

MakeCell = Callable[..., ComparisonCell]


@pytest.fixture
def written(make_cell: MakeCell) -> MakeCell:
    """A cell in its folder, as the comparison leaves it to the worker."""

    def write(**arguments: object) -> ComparisonCell:
        cell = make_cell(**arguments)
        cell.write()
        return cell

    return write


@pytest.fixture
def trained(
    written: MakeCell, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> ComparisonCell:
    """A cell that is trained for two epochs and evaluated, once for all tests."""
    if not hasattr(request.module, "_trained"):
        cell = written(folder=str(tmp_path_factory.mktemp("trained")))
        run_cell(cell.folder)
        request.module._trained = cell
    return request.module._trained


def weights(cell: ComparisonCell) -> dict[str, torch.Tensor]:
    return torch.load(cell.models / "model.pt", weights_only=True)


def same_weights(first: ComparisonCell, second: ComparisonCell) -> bool:
    own = weights(second)
    return all(torch.equal(own[name], tensor) for name, tensor in weights(first).items())


class TestRunCell:
    def test_trains_and_evaluates(self, trained: ComparisonCell) -> None:
        result = trained.result()
        assert (result["epochs"], result["iterations"], result["cases"]) == (2, 2, 2)
        results = json.loads((Path(trained.folder) / "eval" / "results.json").read_text(encoding="utf-8"))
        assert result["score"] == results["pooled"]["miou_pooled"]["summary"][-1]["mean"]
        assert result["larger_is_better"] is True
        assert result["seconds"] > 0
        assert {path.name for path in trained.models.glob("*.pt")} == {"model.pt"}
        assert worker._evaluate(replace(trained, metric="hd95_mm"))["larger_is_better"] is False

    def test_a_stopped_training_goes_on_and_ends_as_if_it_had_not_stopped(
        self, trained: ComparisonCell, written: MakeCell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cell = written()

        def stop(checkpoint: TrainingCheckpoint, trainer: Any) -> None:
            save(checkpoint, trainer)
            raise KeyboardInterrupt

        save = TrainingCheckpoint._save_last
        with monkeypatch.context() as patched:
            patched.setattr(TrainingCheckpoint, "_save_last", stop)
            with pytest.raises(KeyboardInterrupt):
                run_cell(cell.folder)
        assert TrainingCheckpoint.progress(cell.models)["epoch"] == 1
        assert cell.result() is None
        run_cell(cell.folder)
        assert same_weights(trained, cell)
        assert cell.result()["epochs"] == 2
        assert cell.result()["seconds"] is None  # of a part: no measure of the whole

    def test_rungs_follow_the_schedule_of_the_whole(
        self, trained: ComparisonCell, written: MakeCell, capsys: pytest.CaptureFixture[str]
    ) -> None:
        first = written(epochs=1, is_rung=True)
        run_cell(first.folder)
        assert first.result()["score"] == first.result()["best_validation"]
        assert first.result()["epochs"] == 1
        assert (first.models / "last.pt").is_file()
        second = written(epochs=2, start_epoch=1, is_rung=True)
        run_cell(second.folder)
        assert (second.result()["epochs"], second.result()["seconds"] > 0) == (2, True)
        commands = [line for line in capsys.readouterr().out.splitlines() if line.startswith("$ ")]
        assert [command.split()[5] for command in commands] == ["training", "training"]
        assert "--train#trainer#max_epochs" in commands[0]
        # a comparison in the same folder has nothing left to train
        whole = written(epochs=2)
        run_cell(whole.folder)
        assert same_weights(trained, whole)
        assert whole.result()["score"] == trained.result()["score"]

    def test_a_finished_training_is_only_evaluated(self, written: MakeCell, monkeypatch: pytest.MonkeyPatch) -> None:
        cell, run = written(), monai.bundle.run
        ran: list[str] = []

        def stop_before_evaluating(run_id: str, **options: Any) -> None:
            ran.append(run_id)
            if ran == ["training", "evaluating"]:
                raise KeyboardInterrupt
            run(run_id, **options)

        monkeypatch.setattr(worker.monai.bundle, "run", stop_before_evaluating)
        with pytest.raises(KeyboardInterrupt):
            run_cell(cell.folder)
        for _ in range(2):  # the second time nothing is left to do
            run_cell(cell.folder)
            assert ran == ["training", "evaluating", "evaluating"]

    def test_a_trunk_is_written_in_sam2s_layout(self, written: MakeCell) -> None:
        cell = written(metric=None, options={"adapter": "full", "positional_encoding": "sam2"})
        run_cell(cell.folder)
        assert cell.result()["epochs"] == 2
        net = PromptFreeSAM2(adapter="hp", in_channels=1)
        assert load_sam2_checkpoint(net, cell.trunk_file).variant == "tiny"
        name = "image_encoder.trunk.blocks.0.attn.qkv.weight"
        assert torch.equal(net.state_dict()[name], weights(cell)[name])

    def test_a_folder_without_a_cell_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"there is no cell\.json"):
            run_cell(tmp_path)


def test_the_last_line_says_why_a_cell_failed(written: MakeCell, capsys: pytest.CaptureFixture[str]) -> None:
    cell = written(options={"learning_rate": -1.0})
    assert main([cell.folder]) == 1
    reason = "learning_rate must be a number above 0, got -1.0; write --learning_rate VALUE."
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {reason}"
    assert cell.result() is None
