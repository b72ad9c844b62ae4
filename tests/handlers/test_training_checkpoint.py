# SPDX-License-Identifier: Apache-2.0
"""TrainingCheckpoint: what is saved, what is restored, and what is refused."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ignite.distributed as idist
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.optimizers import WarmupCosineSchedule
from monai.transforms import RandFlipd, RandGaussianNoised
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, ReduceLROnPlateau, SequentialLR, StepLR

from monai_sam2adapter.data import EpochSampler, VolumeSliceDataset
from monai_sam2adapter.handlers import TrainingCheckpoint, training_folder
from monai_sam2adapter.handlers.training_folder import case_names
from monai_sam2adapter.metrics import CaseDiceMetric

NAN = float("nan")


@pytest.fixture
def build(run_factory, checkpoint_of, tmp_path):
    """A run with checkpoints in tmp_path, ready to start, and their handler."""

    def _build(resume: bool = False, overwrite: bool = False, init_checkpoint: Any = None, **arguments: Any):
        run = run_factory(**arguments)
        flags = {"resume": resume, "overwrite": overwrite, "init_checkpoint": init_checkpoint}
        return run, checkpoint_of(run, tmp_path, **flags)

    return _build


@pytest.fixture
def train(build):
    """Run to the end or, as a kill would, to where the epoch after ``until`` starts; gives what ``build`` gives."""

    def _train(until: int | None = None, **arguments: Any):
        run, checkpoint = build(**arguments)
        interrupt_after(run, until)
        return run, checkpoint

    return _train


def interrupt_after(run: Any, epoch: int | None) -> None:
    def stop(engine: Any) -> None:
        if engine.state.epoch == epoch + 1:
            raise KeyboardInterrupt

    if epoch is None:
        run.trainer.run()
        return
    run.trainer.add_event_handler(Events.EPOCH_STARTED, stop)
    with pytest.raises(KeyboardInterrupt):
        run.trainer.run()


def saved(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "last.pt", weights_only=True)


def checkpoints_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def rates(run: Any) -> list[float]:
    return [group["lr"] for group in run.optimizer.param_groups]


def state_of(run: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in run.network.state_dict().items()}


def states_by_epoch(run: Any) -> dict[int, dict[str, torch.Tensor]]:
    """Filled while the run goes."""
    states: dict[int, dict[str, torch.Tensor]] = {}
    run.trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda engine: states.update({engine.state.epoch: state_of(run)})
    )
    return states


def assert_same_state(run: Any, expected: Any) -> None:
    torch.testing.assert_close(run.network.state_dict(), expected.network.state_dict(), rtol=0, atol=0)
    states = [each.optimizer.state_dict()["state"] for each in (run, expected)]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    assert rates(run) == rates(expected)
    assert run.trainer.state.epoch == expected.trainer.state.epoch
    assert run.trainer.state.iteration == expected.trainer.state.iteration


class TestSaving:
    def test_last_has_the_state_after_validation_and_schedule_and_best_is_flat(self, train, tmp_path) -> None:
        run, _ = train(epochs=2)
        last = saved(tmp_path)
        assert (last["epoch"], last["max_epochs"], last["iteration"]) == (2, 2, 4)
        assert last["lr_scheduler"]["last_epoch"] == 2
        assert last["optimizer"]["param_groups"][0]["lr"] == rates(run)[0]
        assert last["best_metric"] == run.evaluator.state.best_metric
        assert last["best_metric_epoch"] == run.evaluator.state.best_metric_epoch
        torch.testing.assert_close(last["network"], dict(run.network.state_dict()))
        best = torch.load(tmp_path / "model.pt", weights_only=True)
        assert set(best) == set(run.network.state_dict())
        assert {tensor.device.type for tensor in best.values()} == {"cpu"}
        assert checkpoints_in(tmp_path) == ["last.pt", "model.pt"]

    def test_a_compiled_network_is_saved_and_resumed_as_a_bare_one(self, train, tiny_network, tmp_path) -> None:
        def compiled() -> torch.nn.Module:
            return torch.compile(type(tiny_network)(), backend="eager")

        train(until=1, epochs=2, network=compiled())
        assert saved(tmp_path)["network"].keys() == tiny_network.state_dict().keys()
        assert torch.load(tmp_path / "model.pt", weights_only=True).keys() == tiny_network.state_dict().keys()
        last = saved(tmp_path)  # as earlier versions wrote it
        last["network"] = {f"module._orig_mod.{name}": tensor for name, tensor in last["network"].items()}
        torch.save(last, tmp_path / "last.pt")
        resumed, _ = train(epochs=2, network=compiled(), resume=True)
        assert resumed.trainer.state.epoch == 2

    def test_its_place_in_the_list_does_not_matter(self, run_factory, checkpoint_of, tmp_path) -> None:
        """The schedule steps behind it in the list, and yet is saved after its step."""
        run = run_factory(epochs=1)
        checkpoint_of(run, tmp_path)
        late = torch.optim.lr_scheduler.StepLR(run.optimizer, 1, 0.5)
        run.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: late.step())
        run.trainer.run()
        assert saved(tmp_path)["optimizer"]["param_groups"][0]["lr"] == rates(run)[0]

    def test_nothing_is_touched_before_the_run_starts(self, train, build, tmp_path) -> None:
        train(epochs=1)
        before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        for flags in ({}, {"resume": True}, {"overwrite": True}):
            build(epochs=2, **flags)
        assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before

    @pytest.mark.parametrize(
        ("values", "best", "best_epoch"),
        [
            pytest.param([0.1, 0.3, 0.2], 0.3, 2, id="middle"),
            pytest.param([0.3, 0.3, 0.3], 0.3, 1, id="first_of_equal"),
            pytest.param([NAN, 0.1, NAN], 0.1, 2, id="nan_first"),
            pytest.param([0.2, NAN, 0.1], 0.2, 1, id="nan_later"),
            pytest.param([0.0, 0.0, 0.1], 0.1, 3, id="zero"),
        ],
    )
    def test_best_network_is_that_of_the_best_epoch(
        self, build, scripted_metric, tmp_path, values, best, best_epoch
    ) -> None:
        run, checkpoint = build(epochs=3, key_metric=scripted_metric(values))
        states = states_by_epoch(run)
        run.trainer.run()
        for holder in (checkpoint, run.evaluator.state):
            assert (holder.best_metric, holder.best_metric_epoch) == (pytest.approx(best), best_epoch)
        torch.testing.assert_close(torch.load(tmp_path / "model.pt", weights_only=True), states[best_epoch])

    def test_only_nan_saves_no_best_network(self, train, scripted_metric, tmp_path) -> None:
        _, checkpoint = train(epochs=2, key_metric=scripted_metric([NAN, NAN]))
        assert checkpoint.best_metric is None
        assert not (tmp_path / "model.pt").exists()
        assert saved(tmp_path)["best_metric"] is None

    def test_validation_at_some_epochs_still_saves_every_epoch(self, train, scripted_metric, tmp_path) -> None:
        _, checkpoint = train(until=3, epochs=4, val_interval=2, key_metric=scripted_metric([0.5]))
        assert checkpoint.best_metric_epoch == 2
        assert saved(tmp_path)["epoch"] == 3

    @pytest.mark.parametrize(
        ("epochs", "val_interval", "values", "validated", "best_epoch"),
        [
            pytest.param(3, 5, [0.5], [3], 3, id="interval_longer_than_the_run"),
            pytest.param(3, 2, [0.5, 0.7], [2, 3], 3, id="last_epoch_is_better"),
            pytest.param(3, 2, [0.7, 0.5], [2, 3], 2, id="last_epoch_is_worse"),
            pytest.param(4, 2, [0.5, 0.7], [2, 4], 4, id="interval_meets_the_last_epoch"),
        ],
    )
    def test_last_epoch_is_always_validated_once(
        self, build, scripted_metric, tmp_path, epochs, val_interval, values, validated, best_epoch
    ) -> None:
        run, _ = build(epochs=epochs, val_interval=val_interval, key_metric=scripted_metric(values))
        seen: list[int] = []
        run.evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: seen.append(engine.state.epoch))
        states = states_by_epoch(run)
        run.trainer.run()
        assert seen == validated
        torch.testing.assert_close(torch.load(tmp_path / "model.pt", weights_only=True), states[best_epoch])
        last = saved(tmp_path)
        assert (last["epoch"], last["best_metric_epoch"]) == (epochs, best_epoch)
        assert last["best_metric"] == pytest.approx(max(values))

    def test_run_terminated_inside_an_epoch_keeps_the_epoch_before(self, build, scripted_metric, tmp_path) -> None:
        run, _ = build(epochs=3, val_interval=5, key_metric=scripted_metric([]))
        run.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda engine: engine.terminate())
        run.trainer.run()
        assert saved(tmp_path)["epoch"] == 1
        assert checkpoints_in(tmp_path) == ["last.pt"]

    def test_non_finite_weights_are_never_saved(self, build, tmp_path) -> None:
        run, _ = build(epochs=3)

        @run.trainer.on(Events.ITERATION_COMPLETED(once=4))
        def spoil(engine: Any) -> None:
            run.network.conv.weight.data[0, 0, 0, 0, 0] = math.inf

        with pytest.raises(RuntimeError, match=r"at epoch 2: 1 tensors of the network hold NaN .*conv.weight.*--amp F"):
            run.trainer.run()
        assert saved(tmp_path)["epoch"] == 1
        assert checkpoints_in(tmp_path) == ["last.pt", "model.pt"]

    def test_key_metric_has_to_be_one_number(self, build, run_factory, checkpoint_of, tmp_path) -> None:
        run, _ = build(key_metric=CaseDiceMetric(reduction="mean_batch"))
        with pytest.raises(ValueError, match=r'key metric dice must be one number.*use its reduction "mean"'):
            run.trainer.run()
        run = run_factory()
        run.evaluator.state.key_metric_name = None
        with pytest.raises(ValueError, match="give the evaluator a key_val_metric"):
            checkpoint_of(run, tmp_path)

    def test_an_evaluator_is_no_trainer(self, build) -> None:
        run, checkpoint = build()
        with pytest.raises(ValueError, match="handlers of a trainer, got a SupervisedEvaluator"):
            checkpoint.attach(run.evaluator)


class TestEarlyStopping:
    @pytest.mark.parametrize(
        ("values", "patience", "stops_at", "best_epoch"),
        [
            pytest.param([0.1, 0.5, 0.4, 0.3, 0.9, 0.9], 2, 4, 2, id="after_two_that_are_worse"),
            pytest.param([0.5, 0.4, 0.6, 0.5, 0.5, 0.9], 3, 6, 6, id="a_better_one_starts_anew"),
            pytest.param([NAN, NAN, 0.3, 0.9, 0.9, 0.9], 2, 2, -1, id="nan_is_never_better"),
            pytest.param([0.1, 0.5, 0.4, 0.3, 0.2, 0.1], None, 6, 2, id="off"),
        ],
    )
    def test_stops_after_as_many_validations_without_a_better_network(
        self, run_factory, checkpoint_of, scripted_metric, tmp_path, values, patience, stops_at, best_epoch
    ) -> None:
        run = run_factory(epochs=6, key_metric=scripted_metric(values))
        checkpoint = checkpoint_of(run, tmp_path, patience=patience)
        run.trainer.run()
        assert (run.trainer.state.epoch, checkpoint.best_metric_epoch) == (stops_at, best_epoch)
        last = saved(tmp_path)
        assert (last["epoch"], last["validated"], last["stopped"]) == (stops_at, True, stops_at < 6)

    def test_counts_validations_and_what_is_better_is_the_evaluators_word(
        self, run_factory, checkpoint_of, scripted_metric, tmp_path
    ) -> None:
        run = run_factory(epochs=9, val_interval=2, key_metric=scripted_metric([0.5, 0.3, 0.4, 0.2]))
        run.evaluator.metric_cmp_fn = lambda current, best: current < best
        checkpoint_of(run, tmp_path, patience=1)
        run.trainer.run()
        assert run.trainer.state.epoch == 6

    def test_a_resumed_run_goes_on_counting(self, run_factory, checkpoint_of, scripted_metric, tmp_path) -> None:
        def go_on(values: list[float], until: int | None = None, patience: int | None = 3, resume: bool = True) -> Any:
            run = run_factory(epochs=8, key_metric=scripted_metric(values))
            checkpoint_of(run, tmp_path, patience=patience, resume=resume)
            interrupt_after(run, until)
            return run.trainer.state.epoch

        go_on([0.5, 0.4, 0.3], until=3, resume=False)
        assert go_on([0.2, 0.9]) == 4
        assert TrainingCheckpoint.progress(tmp_path)["stopped"]
        with pytest.raises(ValueError, match=r"has stopped: 3 validations .* with a patience of more than 3"):
            go_on([0.9])
        assert go_on([0.4, 0.3, 0.2], patience=5) == 6
        assert go_on([0.4, 0.3, 0.2], patience=None) == 8


class TestResuming:
    @pytest.mark.parametrize(
        "schedule",
        [
            pytest.param(None, id="cosine"),
            pytest.param(lambda opt, n: StepLR(opt, step_size=1, gamma=0.5), id="step"),
            pytest.param(lambda opt, n: LambdaLR(opt, lambda epoch: 1 - epoch / (2 * n)), id="lambda"),
            pytest.param(
                lambda opt, n: SequentialLR(opt, [LinearLR(opt, 0.1, total_iters=1), CosineAnnealingLR(opt, n)], [1]),
                id="warmup",
            ),
            # a numpy number in the schedule must not make the file unreadable
            pytest.param(lambda opt, n: CosineAnnealingLR(opt, n, eta_min=np.float64(0.01)), id="numpy"),
        ],
    )
    def test_resumed_run_equals_an_uninterrupted_one(self, run_factory, train, build, schedule) -> None:
        whole = run_factory(epochs=4, schedule=schedule)
        seen: list[list[float]] = []
        whole.trainer.add_event_handler(Events.EPOCH_STARTED, lambda: seen.append(rates(whole)))
        whole.trainer.run()

        first, _ = train(until=2, epochs=4, schedule=schedule)
        second, checkpoint = build(epochs=4, schedule=schedule, resume=True)
        resumed: list[list[float]] = []
        second.trainer.add_event_handler(Events.EPOCH_STARTED, lambda: resumed.append(rates(second)))
        second.trainer.run()

        assert resumed == seen[2:]
        assert len({rate for group in seen for rate in group}) > 2
        assert_same_state(second, whole)
        assert not torch.equal(second.network.conv.weight, first.network.conv.weight)
        assert checkpoint.best_metric == whole.evaluator.state.best_metric
        assert checkpoint.best_metric_epoch == whole.evaluator.state.best_metric_epoch

    @pytest.mark.parametrize("moment", [Events.STARTED, Events.EPOCH_COMPLETED], ids=["before", "in"])
    def test_run_killed_at_its_last_validation_is_finished(self, run_factory, build, train, tmp_path, moment) -> None:
        whole = run_factory(epochs=2)
        whole.trainer.run()
        run, _ = build(epochs=2, val_interval=5)

        @run.evaluator.on(moment)
        def kill() -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run.trainer.run()
        assert checkpoints_in(tmp_path) == ["last.pt"]
        assert not TrainingCheckpoint.progress(tmp_path)["validated"]
        resumed, _ = train(epochs=2, val_interval=5, resume=True)
        assert_same_state(resumed, whole)
        progress = TrainingCheckpoint.progress(tmp_path)
        assert progress["validated"]
        assert progress["best_metric_epoch"] == 2
        best = torch.load(tmp_path / "model.pt", weights_only=True)
        torch.testing.assert_close(best, dict(whole.network.state_dict()), rtol=0, atol=0)
        with pytest.raises(ValueError, match="is finished: 2 of 2 epochs"):
            train(epochs=2, val_interval=5, resume=True)

    def test_finished_run_goes_on_with_more_epochs(self, run_factory, train, tmp_path) -> None:
        """With a constant learning rate, 2 epochs and 2 more are 4."""

        def constant(opt: torch.optim.Optimizer, n: int) -> LambdaLR:
            return LambdaLR(opt, lambda epoch: 1.0)

        whole = run_factory(epochs=4, schedule=constant)
        whole.trainer.run()
        train(epochs=2, schedule=constant)
        more, _ = train(epochs=4, schedule=constant, resume=True)
        assert_same_state(more, whole)
        assert saved(tmp_path)["epoch"] == 4

    def test_longer_run_follows_the_schedule_of_its_new_length(self, train) -> None:
        """A cosine of 2 epochs has come down to 0; of 4 epochs it is half-way."""
        done, _ = train(epochs=2, learning_rate=0.05)
        assert rates(done) == pytest.approx([0])
        more, _ = train(until=2, epochs=4, learning_rate=0.05, resume=True)
        assert rates(more) == pytest.approx([0.05 * (1 + math.cos(math.pi * 2 / 4)) / 2])
        more, _ = train(epochs=4, learning_rate=0.05, resume=True)
        assert rates(more) == pytest.approx([0], abs=1e-12)

    def test_resumed_run_takes_a_new_learning_rate(self, train) -> None:
        train(until=2, epochs=4, learning_rate=0.05)
        second, _ = train(until=2, epochs=4, learning_rate=0.01, resume=True)
        assert rates(second) == pytest.approx([0.005])
        second, _ = train(until=3, epochs=4, learning_rate=0.01, resume=True)
        third, _ = train(until=3, epochs=4, learning_rate=0.01, resume=True)
        assert rates(third) == rates(second)

    def test_resumed_run_takes_a_new_warm_up_and_weight_decay(self, train, build, caplog) -> None:
        def warm_up(epochs: int) -> Callable[..., Any]:
            return lambda opt, n: WarmupCosineSchedule(opt, epochs, n, warmup_multiplier=1 / (1 + epochs))

        whole, _ = train(until=2, epochs=4, schedule=warm_up(3))
        run, _ = train(until=2, epochs=4, schedule=warm_up(0), overwrite=True)
        assert rates(run) == pytest.approx([0.025])
        run, _ = build(epochs=4, schedule=warm_up(3), resume=True)
        run.optimizer.param_groups[0]["weight_decay"] = 0.5
        interrupt_after(run, 2)
        assert rates(run) == rates(whole) == pytest.approx([0.05 * 3 / 4])
        assert run.optimizer.param_groups[0]["weight_decay"] == 0.5
        assert "another warm-up or form" in caplog.text

    def test_run_of_another_schedule_is_resumed(self, train) -> None:
        """As earlier versions wrote it."""
        train(until=2, epochs=4)
        run, _ = train(until=2, epochs=4, resume=True, schedule=lambda opt, n: WarmupCosineSchedule(opt, 0, n))
        assert rates(run) == pytest.approx([0.025])

    def test_plateau_schedule_is_restored(self, build) -> None:
        def constant(**arguments: Any):
            run, _ = build(schedule=lambda opt, n: ReduceLROnPlateau(opt, patience=5), **arguments)
            for handler, _, _ in run.trainer._event_handlers[Events.EPOCH_COMPLETED]:
                if hasattr(handler, "step_transform"):
                    handler.step_transform = lambda engine: 1.0
            return run

        constant(epochs=2).trainer.run()
        run = constant(epochs=4, resume=True)
        interrupt_after(run, 2)
        assert run.lr_scheduler.num_bad_epochs == 1

    def test_remembers_the_best_and_keeps_the_better_network(self, train, scripted_metric, tmp_path) -> None:
        train(until=2, epochs=4, key_metric=scripted_metric([0.9, 0.5]))
        best = (tmp_path / "model.pt").read_bytes()
        second, checkpoint = train(epochs=4, key_metric=scripted_metric([0.6, 0.7]), resume=True)
        assert (tmp_path / "model.pt").read_bytes() == best
        assert (checkpoint.best_metric, checkpoint.best_metric_epoch) == (pytest.approx(0.9), 1)
        assert second.evaluator.state.best_metric == pytest.approx(0.9)

    def test_lost_best_network_is_replaced(self, train, scripted_metric, tmp_path, caplog) -> None:
        train(until=1, epochs=2, key_metric=scripted_metric([0.9]))
        (tmp_path / "model.pt").unlink()
        _, checkpoint = train(epochs=2, key_metric=scripted_metric([0.6]), resume=True)
        assert "model.pt is gone" in caplog.text
        assert (tmp_path / "model.pt").exists()
        assert checkpoint.best_metric_epoch == 2

    def test_validates_its_last_epoch(self, train, scripted_metric, tmp_path) -> None:
        train(until=2, epochs=3, val_interval=5, key_metric=scripted_metric([]))
        assert not (tmp_path / "model.pt").exists()
        _, checkpoint = train(epochs=3, val_interval=5, key_metric=scripted_metric([0.5]), resume=True)
        assert checkpoint.best_metric_epoch == 3
        assert (tmp_path / "model.pt").exists()

    def test_gradient_scaler_is_restored(self, build, monkeypatch) -> None:
        """A scaler that works on the CPU stands in for that of CUDA, which is disabled there."""
        monkeypatch.setattr(torch.cuda.amp, "GradScaler", lambda: torch.amp.GradScaler("cpu", init_scale=4.0))
        first, _ = build(epochs=2, amp=True)
        first.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda e: e.scaler.update(new_scale=32.0))
        interrupt_after(first, epoch=1)
        second, _ = build(epochs=2, amp=True, resume=True)
        scales = []
        second.trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: scales.append(engine.scaler.get_scale()))
        second.trainer.run()
        assert scales == [32.0]

    def test_other_batch_size_resumes_at_the_whole_epoch(self, train) -> None:
        train(until=2, epochs=3)
        second, _ = train(epochs=3, epoch_length=1, resume=True)
        assert (second.trainer.state.epoch, second.trainer.state.iteration) == (3, 3)

    @pytest.mark.parametrize(
        ("changed", "now"),
        [
            pytest.param({}, None, id="nothing"),
            pytest.param({"learning_rate": 0.01}, "learning rate 0.01 and 4 epochs", id="learning_rate"),
            pytest.param({"epochs": 6}, "learning rate 0.05 and 6 epochs", id="epochs"),
        ],
    )
    def test_another_schedule_warns(self, train, caplog, changed, now) -> None:
        caplog.set_level(logging.INFO)
        options = {"epochs": 4, "learning_rate": 0.05}
        train(until=2, **options)
        train(until=2, **{**options, **changed}, resume=True)
        warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert warned == [
            f"The run was started with learning rate 0.05 and 4 epochs, and goes on with {now}: its schedule follows "
            "the new values."
            for _ in changed
        ]
        assert f"after epoch 2 of {changed.get('epochs', 4)}, learning rate" in caplog.text

    def test_a_finished_run_is_refused(self, train) -> None:
        train(epochs=2)
        with pytest.raises(ValueError, match=r"is finished: 2 of 2 epochs are done.*resume with more than 2 epochs"):
            train(epochs=2, resume=True)

    def test_another_network_is_refused_before_anything_changes(self, train, tiny_network) -> None:
        train(until=1, epochs=2)
        other = type(tiny_network)(channels=5)
        before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
        with pytest.raises(ValueError, match=r"last.pt does not fit the network: it differs in . tensors: conv.weight"):
            train(epochs=2, network=other, resume=True)
        torch.testing.assert_close(dict(other.state_dict()), before)
        wrapped = torch.nn.Sequential(tiny_network)
        with pytest.raises(
            ValueError, match=r"lacks 7 of the 7 tensors .* 0.conv.weight.* has 7 tensors that the network has not"
        ):
            train(epochs=2, network=wrapped, resume=True)

    def test_other_trained_parameters_are_refused(self, train, run_factory, checkpoint_of, tmp_path) -> None:
        train(until=1, epochs=2)
        run = run_factory(epochs=2)
        run.optimizer = torch.optim.Adam(run.network.conv.parameters(), lr=0.05)
        checkpoint_of(run, tmp_path, resume=True)
        with pytest.raises(ValueError, match="saved while other parameters were trained"):
            run.trainer.run()

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            pytest.param(b"", "last.pt is empty", id="empty"),
            pytest.param(b"PK\x03\x04 not a zip", "last.pt is truncated", id="broken"),
            pytest.param(None, "last.pt is truncated", id="truncated"),
            pytest.param({"conv.weight": torch.zeros(1)}, "is not a checkpoint of a training run", id="other"),
        ],
    )
    def test_unreadable_checkpoint_is_refused(self, train, tmp_path, content, message) -> None:
        if content is None:
            train(epochs=1)
            whole = (tmp_path / "last.pt").read_bytes()
            content = whole[: len(whole) // 2]
        if isinstance(content, bytes):
            (tmp_path / "last.pt").write_bytes(content)
        else:
            torch.save(content, tmp_path / "last.pt")
        with pytest.raises(ValueError, match=message):
            train(epochs=2, resume=True)
        with pytest.raises(ValueError, match=message):
            TrainingCheckpoint.progress(tmp_path)


class TestFrozenBase:
    """last.pt holds what is trained; the frozen rest comes from where the run has got it, and is compared."""

    @pytest.fixture
    def network(self, tiny_network) -> Callable[..., torch.nn.Module]:
        """A network whose convolution is frozen, with the base that all of them have, or with another one."""

        def make(other: bool = False) -> torch.nn.Module:
            network = type(tiny_network)()
            network.conv.requires_grad_(False)
            if other:
                network.conv.weight.data += 1
            return network

        return make

    @pytest.mark.parametrize("other", [False, True], ids=["same_base", "base_of_model.pt"])
    def test_is_not_saved_and_resumes_exactly(self, network, run_factory, train, tmp_path, other) -> None:
        whole = run_factory(epochs=4, network=network())
        whole.trainer.run()
        train(until=2, epochs=4, network=network())
        assert saved(tmp_path)["network"].keys() == {name for name in network().state_dict() if "norm" in name}
        assert torch.load(tmp_path / "model.pt", weights_only=True).keys() == network().state_dict().keys()
        second, _ = train(epochs=4, network=network(other), resume=True)
        assert_same_state(second, whole)

    def test_another_one_is_refused(self, network, train, tmp_path) -> None:
        train(until=1, epochs=2, network=network())
        other = network(other=True)
        before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
        other.base_checkpoint = "sam2.1_hiera_small"
        with pytest.raises(
            ValueError, match=r"other frozen weights than sam2.1_hiera_small. Resume with the sam2_checkp"
        ):
            train(epochs=2, network=other, resume=True)
        del other.base_checkpoint
        (tmp_path / "model.pt").unlink()
        with pytest.raises(ValueError, match=r"its frozen weights are neither in the network nor in .*model.pt"):
            train(epochs=2, network=other, resume=True)
        torch.testing.assert_close(dict(other.state_dict()), before)

    def test_files_of_format_1_hold_it_and_resume(self, network, run_factory, train, tmp_path) -> None:
        whole = run_factory(epochs=2, network=network())
        whole.trainer.run()
        train(until=1, epochs=2, network=network())
        last = saved(tmp_path)
        del last["frozen_sha256"]
        old = {**last, "format": 1, "network": {**network().state_dict(), **last["network"]}}
        torch.save(old, tmp_path / "last.pt")
        second, _ = train(epochs=2, network=network(other=True), resume=True)
        assert_same_state(second, whole)


class TestOptions:
    """What a run was started with, compared when it is resumed."""

    @pytest.fixture
    def split(self, tmp_path) -> Path:
        path = tmp_path / "data" / "split.json"
        path.parent.mkdir()
        path.write_text("[1, 2]")
        return path

    @pytest.fixture
    def start(self, run_factory, checkpoint_of, tmp_path, split) -> Callable[..., None]:
        """Run one epoch of a new run, or one more of an earlier one."""

        def _start(cases: Any, options: Any, resume: bool = False) -> None:
            run = run_factory(epochs=3)
            checkpoint_of(run, tmp_path / "run", resume=resume, cases=cases, options=options)
            interrupt_after(run, 2 if resume else 1)

        return _start

    def test_other_cases_are_refused(self, start, tmp_path, split) -> None:
        known = {"fold": 0, "split_file": str(split), "task": None}
        start(known, {})
        before = (tmp_path / "run" / "last.pt").read_bytes()
        moved = split.rename(split.with_name("moved.json"))
        edited = split.with_name("edited.json")
        edited.write_text("[2, 1]")
        for changed in ({"fold": 1}, {"fold": None}, {"split_file": None}, {"split_file": str(edited)}, {"task": "a"}):
            cases, (name,) = {**known, "split_file": str(moved), **changed}, changed
            with pytest.raises(ValueError, match=f"started on other cases: {name} was .* and is .*Resume"):
                start(cases, {}, resume=True)
            with pytest.raises(ValueError, match="started on other cases"):
                TrainingCheckpoint.check_output_dir(tmp_path / "run", resume=True, cases=cases)
        assert (tmp_path / "run" / "last.pt").read_bytes() == before
        start({**known, "split_file": moved, "new": 1}, {}, resume=True)  # the same content in another place

    @pytest.mark.parametrize("part", ["training", "validation"])
    def test_data_that_were_added_or_removed_are_refused(
        self, run_factory, checkpoint_of, tmp_path, monkeypatch, part
    ) -> None:
        def start(names: Sequence[str], resume: bool = False) -> None:
            run = run_factory(epochs=3)
            loader = (run.trainer if part == "training" else run.evaluator).data_loader
            for item, name in zip(loader.dataset.data, names, strict=True):
                item["case"] = name
            checkpoint_of(run, tmp_path / "run", resume=resume)
            interrupt_after(run, 2 if resume else 1)

        first = ["d", "c", "b", "a"][: 4 if part == "training" else 3]
        start(first)
        for names in (["x", *first[1:]], [first[0]] * len(first)):
            with pytest.raises(ValueError, match=f"cases for {part}, now there are .* are gone .*--init_checkpoint"):
                start(names, resume=True)
        start(sorted(first), resume=True)

    def test_other_options_are_said_once(self, start, caplog) -> None:
        start({}, {"batch_size": 8, "seed": 0, "image_size": [64, 64]})
        with caplog.at_level(logging.WARNING):
            start({}, {"batch_size": 4, "seed": 1, "image_size": [64, 64], "new": 1}, resume=True)
        found = [message for message in caplog.messages if "other options" in message]
        assert [message.partition(": ")[2] for message in found] == ["batch_size was 8 and is 4; seed was 0 and is 1."]


class TestFolder:
    def test_a_second_training_is_refused_until_the_first_is_dead(self, train, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(training_folder, "LOCK_TIMEOUT", 0.1)
        script = (
            "import sys, time; from pathlib import Path; from monai_sam2adapter.handlers import training_folder; "
            "lock = training_folder.lock_folder(Path(sys.argv[1])); print('locked', flush=True); time.sleep(600)"
        )
        path = os.pathsep.join(filter(None, sys.path))
        command = [sys.executable, "-c", script, str(tmp_path)]
        first = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path})
        try:
            assert first.stdout.readline() == b"locked\n"
            message = f"another training writes to {tmp_path}; wait for its end"
            for flags in ({}, {"overwrite": True}, {"resume": True}):
                with pytest.raises(ValueError, match=message):
                    TrainingCheckpoint.check_output_dir(tmp_path, **flags)
                with pytest.raises(ValueError, match=message):
                    train(epochs=1, **flags)
            assert checkpoints_in(tmp_path) == []
        finally:
            first.kill()
            first.communicate()
        train(epochs=1)
        train(epochs=2, resume=True)
        assert saved(tmp_path)["epoch"] == 2

    def test_a_model_is_improved_in_its_place_and_kept_until_then(
        self, train, scripted_metric, tmp_path, caplog
    ) -> None:
        train(epochs=1)
        best, last = tmp_path / "model.pt", tmp_path / "training" / "last.pt"
        content = best.read_bytes()
        scores = {"key_metric": scripted_metric([0.5, 0.4]), "init_checkpoint": str(best)}  # of the start, of epoch 1
        _, checkpoint = train(epochs=1, **scores)
        assert (checkpoint.best_metric, checkpoint.best_metric_epoch) == (0.5, 0)
        assert best.read_bytes() == content
        assert torch.load(last, weights_only=True)["epoch"] == 1
        assert checkpoints_in(tmp_path) == ["model.pt", "training"], "MONAI Label offers every *.pt here as a model"
        assert f"No epoch was better than the start: {best} is as it was." in caplog.messages
        scores = {"key_metric": scripted_metric([0.5, 0.4]), "init_checkpoint": best}
        train(1, epochs=3, **scores)
        scores["key_metric"] = scripted_metric([0.6])
        run, checkpoint = train(2, epochs=3, resume=True, **scores)
        assert (round(checkpoint.best_metric, 6), checkpoint.best_metric_epoch) == (0.6, 2)
        torch.testing.assert_close(torch.load(best, weights_only=True), dict(run.network.state_dict()))

    def test_a_file_elsewhere_is_no_reason_to_replace_a_model(self, train, tmp_path) -> None:
        train(epochs=1)
        other = tmp_path / "elsewhere" / "model.pt"
        other.parent.mkdir()
        other.write_bytes((tmp_path / "model.pt").read_bytes())
        with pytest.raises(ValueError, match=r"holds last.pt and model.pt of an earlier run"):
            train(epochs=1, init_checkpoint=other)

    def test_new_run_over_an_old_one_is_refused_unless_asked_for(self, train, tmp_path) -> None:
        train(epochs=1)
        before = (tmp_path / "last.pt").read_bytes()
        message = r"holds last.pt and model.pt of an earlier run.*--resume True.*--init_checkpoint .*--overwrite True"
        with pytest.raises(ValueError, match=message):
            train(epochs=2)
        assert (tmp_path / "last.pt").read_bytes() == before
        train(epochs=2, overwrite=True)
        assert saved(tmp_path)["epoch"] == 2

    def test_overwriting_run_that_dies_early_leaves_no_file_of_the_earlier_one(self, train, tmp_path) -> None:
        train(epochs=1)
        train(until=0, epochs=2, overwrite=True)
        assert checkpoints_in(tmp_path) == []

    @pytest.mark.parametrize("name", ["resume", "overwrite"])
    @pytest.mark.parametrize("value", ["false", "true", 1, None])
    def test_flag_that_is_no_bool_is_refused(self, build, tmp_path, name, value) -> None:
        message = rf"{name} must be True or False, got {value!r}; write --{name} True or --{name} False"
        with pytest.raises(ValueError, match=message):
            TrainingCheckpoint.check_output_dir(tmp_path, **{name: value})
        with pytest.raises(ValueError, match=message):
            build(**{name: value})

    def test_can_be_checked_before_anything_is_built(self, tmp_path) -> None:
        TrainingCheckpoint.check_output_dir(tmp_path / "new")
        with pytest.raises(FileNotFoundError, match=r"there is no .*last.pt. Give the output_dir of an earlier run"):
            TrainingCheckpoint.check_output_dir(tmp_path, resume=True)
        with pytest.raises(ValueError, match="resume and overwrite exclude each other"):
            TrainingCheckpoint.check_output_dir(tmp_path, resume=True, overwrite=True)
        assert not (tmp_path / "new").exists()

    def test_progress_tells_how_far_a_run_has_come(self, train, tmp_path) -> None:
        assert TrainingCheckpoint.progress(tmp_path) is None
        run, checkpoint = train(until=2, epochs=3)
        length = run.trainer.state.epoch_length
        best = {"best_metric": checkpoint.best_metric, "best_metric_epoch": checkpoint.best_metric_epoch}
        assert TrainingCheckpoint.progress(tmp_path) == {
            "epoch": 2,
            "max_epochs": 3,
            "iteration": 2 * length,
            "validated": True,
            "stopped": False,
            **best,
        }


@pytest.mark.parametrize("workers", [(0, 0), (2, 0)], ids=["0", "2-then-0"])
def test_a_resumed_run_gets_the_same_batches(evaluator_factory, tiny_network, checkpoint_of, tmp_path, workers) -> None:
    """Random transforms of slices, with any number of worker processes."""
    evaluator = evaluator_factory(tiny_network)

    def build(workers: int) -> SimpleNamespace:
        torch.manual_seed(0)
        network = torch.nn.Conv2d(1, 2, 3, padding=1)
        volumes = [{"image": torch.rand(1, 6, 6, n), "label": torch.rand(1, 6, 6, n).round()} for n in (3, 4)]
        augmentation = [RandFlipd(["image", "label"], prob=0.5), RandGaussianNoised("image", prob=0.5)]
        dataset = VolumeSliceDataset(volumes, [], augmentation, progress=False)
        loader = DataLoader(dataset, batch_size=2, sampler=EpochSampler(dataset, seed=5), num_workers=workers)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
        batches: list[torch.Tensor] = []
        trainer = SupervisedTrainer(
            device="cpu",
            max_epochs=3,
            train_data_loader=loader,
            network=network,
            optimizer=optimizer,
            loss_function=lambda logits, label: torch.nn.functional.cross_entropy(logits, label[:, 0].long()),
        )
        trainer.add_event_handler(Events.ITERATION_STARTED, lambda engine: batches.append(engine.state.batch["image"]))
        lr_scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
        return SimpleNamespace(
            network=network, optimizer=optimizer, lr_scheduler=lr_scheduler, trainer=trainer, evaluator=evaluator,
            batches=batches,
        )  # fmt: skip

    whole = build(0)
    whole.trainer.run()
    first = build(workers[0])
    checkpoint_of(first, tmp_path)
    interrupt_after(first, 1)
    torch.rand(7)  # another process has other generators
    second = build(workers[1])
    checkpoint_of(second, tmp_path, resume=True)
    second.trainer.run()

    batches = first.batches[:4] + second.batches
    assert len(batches) == len(whole.batches) == 12
    assert all(torch.equal(batch, expected) for batch, expected in zip(batches, whole.batches, strict=True))
    assert not torch.equal(whole.batches[0], whole.batches[4])
    assert_same_state(second, whole)


@pytest.mark.parametrize("others", [["b", "c"], ["a"]])
def test_processes_with_other_cases_are_an_error_unless_their_lists_are_shares(
    others: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What machines find in their own copies of the data."""

    def gather(found: list[list[str]], own: list[str]) -> None:
        found[:] = [own, others]

    dataset = Dataset([{"case": "b"}, {"case": "a"}])
    loader = DataLoader(dataset, sampler=EpochSampler(dataset, num_replicas=2, rank=0))
    assert case_names(loader) == ["a", "b"]
    monkeypatch.setattr(idist, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    assert case_names(DataLoader(dataset)) == sorted(["a", "b", *others])  # as partition_dataset makes the lists
    with pytest.raises(ValueError, match=f"process 1 found {len(others)} cases and process 0 2, which differ in "):
        case_names(loader)
    dataset.data, dataset.undivided = dataset.data[:1], dataset.data  # --shard_cache True
    with pytest.raises(ValueError, match="which differ in"):
        case_names(loader)
