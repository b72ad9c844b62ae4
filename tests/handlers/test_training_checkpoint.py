# SPDX-License-Identifier: Apache-2.0
"""TrainingCheckpoint: what is saved, what is restored, and what is refused."""

from __future__ import annotations

import logging
import math
import os
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, ReduceLROnPlateau, SequentialLR, StepLR

from monai_sam2adapter.handlers import TrainingCheckpoint
from monai_sam2adapter.metrics import CaseDiceMetric

NAN = float("nan")


@pytest.fixture
def start(run_factory, tmp_path):
    """Build a run with a checkpoint handler in tmp_path, attach it, and give back (run, checkpoint)."""

    def _start(resume: bool = False, overwrite: bool = False, **arguments: Any):
        run = run_factory(**arguments)
        checkpoint = TrainingCheckpoint(tmp_path, **vars(run), resume=resume, overwrite=overwrite)
        checkpoint.attach()
        return run, checkpoint

    return _start


def interrupt_after(run: Any, epoch: int) -> None:
    """Raise when the epoch after this one starts, as a kill would."""

    def stop(engine: Any) -> None:
        raise KeyboardInterrupt

    run.trainer.add_event_handler(Events.EPOCH_STARTED(once=epoch + 1), stop)
    with pytest.raises(KeyboardInterrupt):
        run.trainer.run()


def rates(run: Any) -> list[float]:
    return [group["lr"] for group in run.optimizer.param_groups]


def assert_same_state(run: Any, expected: Any) -> None:
    torch.testing.assert_close(run.network.state_dict(), expected.network.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(
        run.optimizer.state_dict()["state"], expected.optimizer.state_dict()["state"], rtol=0, atol=0
    )
    assert rates(run) == rates(expected)
    assert run.trainer.state.epoch == expected.trainer.state.epoch
    assert run.trainer.state.iteration == expected.trainer.state.iteration


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
def test_interrupted_and_resumed_run_equals_an_uninterrupted_one(run_factory, start, schedule) -> None:
    whole = run_factory(epochs=4, schedule=schedule)
    seen: list[list[float]] = []
    whole.trainer.add_event_handler(Events.EPOCH_STARTED, lambda: seen.append(rates(whole)))
    whole.trainer.run()

    first, _ = start(epochs=4, schedule=schedule)
    interrupt_after(first, epoch=2)
    second, checkpoint = start(epochs=4, schedule=schedule, resume=True)
    assert second.trainer.state.epoch == 2
    resumed: list[list[float]] = []
    second.trainer.add_event_handler(Events.EPOCH_STARTED, lambda: resumed.append(rates(second)))
    second.trainer.run()

    assert resumed == seen[2:]
    assert len({rate for group in seen for rate in group}) > 2
    assert_same_state(second, whole)
    assert not torch.equal(second.network.conv.weight, first.network.conv.weight)
    assert checkpoint.best_metric == whole.evaluator.state.best_metric
    assert checkpoint.best_metric_epoch == whole.evaluator.state.best_metric_epoch


def test_finished_run_goes_on_with_more_epochs(run_factory, start, tmp_path) -> None:
    """With a constant learning rate, 2 epochs and 2 more are 4."""

    def constant(opt: torch.optim.Optimizer, n: int) -> LambdaLR:
        return LambdaLR(opt, lambda epoch: 1.0)

    whole = run_factory(epochs=4, schedule=constant)
    whole.trainer.run()
    start(epochs=2, schedule=constant)[0].trainer.run()
    more, _ = start(epochs=4, schedule=constant, resume=True)
    more.trainer.run()
    assert_same_state(more, whole)
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 4


def test_longer_run_follows_the_schedule_of_its_new_length(start) -> None:
    """A cosine of 2 epochs has come down to 0; of 4 epochs it is half-way."""
    done, _ = start(epochs=2, learning_rate=0.05)
    done.trainer.run()
    assert rates(done) == pytest.approx([0])
    more, _ = start(epochs=4, learning_rate=0.05, resume=True)
    assert rates(more) == pytest.approx([0.05 * (1 + math.cos(math.pi * 2 / 4)) / 2])
    more.trainer.run()
    assert rates(more) == pytest.approx([0], abs=1e-12)


def test_resumed_run_takes_a_new_learning_rate(start) -> None:
    first, _ = start(epochs=4, learning_rate=0.05)
    interrupt_after(first, epoch=2)
    second, _ = start(epochs=4, learning_rate=0.01, resume=True)
    assert rates(second) == pytest.approx([0.005])
    interrupt_after(second, epoch=3)
    third, _ = start(epochs=4, learning_rate=0.01, resume=True)
    assert rates(third) == rates(second)


def test_plateau_schedule_is_restored(start) -> None:
    def plateau(opt: torch.optim.Optimizer, n: int) -> ReduceLROnPlateau:
        return ReduceLROnPlateau(opt, patience=5)

    def build(**arguments: Any):
        run, _ = start(schedule=plateau, **arguments)
        for handler, _, _ in run.trainer._event_handlers[Events.EPOCH_COMPLETED]:
            if hasattr(handler, "step_transform"):
                handler.step_transform = lambda engine: 1.0
        return run

    build(epochs=2).trainer.run()
    run = build(epochs=4, resume=True)
    assert run.lr_scheduler.num_bad_epochs == 1


def test_last_checkpoint_holds_the_state_after_validation_and_schedule_step(start, tmp_path) -> None:
    run, _ = start(epochs=2)
    run.trainer.run()
    saved = torch.load(tmp_path / "last.pt", weights_only=True)
    assert (saved["epoch"], saved["max_epochs"], saved["iteration"]) == (2, 2, 4)
    assert saved["lr_scheduler"]["last_epoch"] == 2
    assert saved["optimizer"]["param_groups"][0]["lr"] == rates(run)[0]
    assert saved["best_metric"] == run.evaluator.state.best_metric
    assert saved["best_metric_epoch"] == run.evaluator.state.best_metric_epoch
    torch.testing.assert_close(saved["network"], dict(run.network.state_dict()))


def test_best_network_is_a_flat_state_dictionary(start, tmp_path) -> None:
    run, _ = start(epochs=1)
    run.trainer.run()
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert set(state) == set(run.network.state_dict())
    assert {tensor.device.type for tensor in state.values()} == {"cpu"}
    run.network.load_state_dict(state)
    assert sorted(os.listdir(tmp_path)) == ["last.pt", "model.pt"]


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
def test_best_network_is_that_of_the_best_epoch(start, scripted_metric, tmp_path, values, best, best_epoch) -> None:
    run, checkpoint = start(epochs=3, key_metric=scripted_metric(values))
    states: dict[int, dict[str, torch.Tensor]] = {}

    def keep(engine: Any) -> None:
        states[engine.state.epoch] = {name: tensor.clone() for name, tensor in run.network.state_dict().items()}

    run.trainer.add_event_handler(Events.EPOCH_COMPLETED, keep)
    run.trainer.run()
    assert (checkpoint.best_metric, checkpoint.best_metric_epoch) == (pytest.approx(best), best_epoch)
    assert (run.evaluator.state.best_metric, run.evaluator.state.best_metric_epoch) == (pytest.approx(best), best_epoch)
    torch.testing.assert_close(torch.load(tmp_path / "model.pt", weights_only=True), states[best_epoch])


def test_only_nan_saves_no_best_network(start, scripted_metric, tmp_path) -> None:
    run, checkpoint = start(epochs=2, key_metric=scripted_metric([NAN, NAN]))
    run.trainer.run()
    assert checkpoint.best_metric is None
    assert not (tmp_path / "model.pt").exists()
    assert torch.load(tmp_path / "last.pt", weights_only=True)["best_metric"] is None


def test_resumed_run_remembers_the_best_and_keeps_the_better_network(start, scripted_metric, tmp_path) -> None:
    first, _ = start(epochs=4, key_metric=scripted_metric([0.9, 0.5]))
    interrupt_after(first, epoch=2)
    best = (tmp_path / "model.pt").read_bytes()
    second, checkpoint = start(epochs=4, key_metric=scripted_metric([0.6, 0.7]), resume=True)
    second.trainer.run()
    assert (tmp_path / "model.pt").read_bytes() == best
    assert (checkpoint.best_metric, checkpoint.best_metric_epoch) == (pytest.approx(0.9), 1)
    assert second.evaluator.state.best_metric == pytest.approx(0.9)


def test_lost_best_network_is_replaced(start, scripted_metric, tmp_path, caplog) -> None:
    first, _ = start(epochs=2, key_metric=scripted_metric([0.9]))
    interrupt_after(first, epoch=1)
    (tmp_path / "model.pt").unlink()
    second, checkpoint = start(epochs=2, key_metric=scripted_metric([0.6]), resume=True)
    second.trainer.run()
    assert "model.pt is gone" in caplog.text
    assert (tmp_path / "model.pt").exists()
    assert checkpoint.best_metric_epoch == 2


def test_validation_at_some_epochs_still_saves_every_epoch(start, scripted_metric, tmp_path) -> None:
    run, checkpoint = start(epochs=4, val_interval=2, key_metric=scripted_metric([0.5]))
    interrupt_after(run, epoch=3)
    assert checkpoint.best_metric_epoch == 2
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 3


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
    start, scripted_metric, tmp_path, epochs, val_interval, values, validated, best_epoch
) -> None:
    run, _ = start(epochs=epochs, val_interval=val_interval, key_metric=scripted_metric(values))
    seen: list[int] = []
    run.evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: seen.append(engine.state.epoch))
    states: dict[int, dict[str, torch.Tensor]] = {}

    def keep(engine: Any) -> None:
        states[engine.state.epoch] = {name: tensor.clone() for name, tensor in run.network.state_dict().items()}

    run.trainer.add_event_handler(Events.EPOCH_COMPLETED, keep)
    run.trainer.run()
    assert seen == validated
    torch.testing.assert_close(torch.load(tmp_path / "model.pt", weights_only=True), states[best_epoch])
    last = torch.load(tmp_path / "last.pt", weights_only=True)
    assert (last["epoch"], last["best_metric"], last["best_metric_epoch"]) == (
        epochs,
        pytest.approx(max(values)),
        best_epoch,
    )


def test_resumed_run_validates_its_last_epoch(start, scripted_metric, tmp_path) -> None:
    first, _ = start(epochs=3, val_interval=5, key_metric=scripted_metric([]))
    interrupt_after(first, epoch=2)
    assert not (tmp_path / "model.pt").exists()
    second, checkpoint = start(epochs=3, val_interval=5, key_metric=scripted_metric([0.5]), resume=True)
    second.trainer.run()
    assert checkpoint.best_metric_epoch == 3
    assert (tmp_path / "model.pt").exists()


def test_run_terminated_inside_an_epoch_keeps_the_epoch_before(start, scripted_metric, tmp_path) -> None:
    run, _ = start(epochs=3, val_interval=5, key_metric=scripted_metric([]))
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda engine: engine.terminate())
    run.trainer.run()
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 1
    assert os.listdir(tmp_path) == ["last.pt"]


def test_non_finite_weights_are_never_saved(start, tmp_path) -> None:
    run, _ = start(epochs=3)

    @run.trainer.on(Events.ITERATION_COMPLETED(once=4))
    def spoil(engine: Any) -> None:
        run.network.conv.weight.data[0, 0, 0, 0, 0] = math.inf

    with pytest.raises(RuntimeError, match=r"at epoch 2: 1 tensors of the network hold NaN .*conv.weight.*--amp F"):
        run.trainer.run()
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 1
    assert sorted(os.listdir(tmp_path)) == ["last.pt", "model.pt"]


def test_gradient_scaler_is_saved_and_restored(start, tmp_path, monkeypatch) -> None:
    """A scaler that works on the CPU stands in for that of CUDA, which is disabled there."""
    monkeypatch.setattr(torch.cuda.amp, "GradScaler", lambda: torch.amp.GradScaler("cpu", init_scale=4.0))
    first, _ = start(epochs=2, amp=True)
    first.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda e: e.scaler.update(new_scale=32.0))
    interrupt_after(first, epoch=1)
    second, _ = start(epochs=2, amp=True, resume=True)
    scales = []
    second.trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: scales.append(engine.scaler.get_scale()))
    second.trainer.run()
    assert scales == [32.0]


def test_other_batch_size_resumes_at_the_whole_epoch(start) -> None:
    first, _ = start(epochs=3)
    interrupt_after(first, epoch=2)
    second, _ = start(epochs=3, epoch_length=1, resume=True)
    second.trainer.run()
    assert (second.trainer.state.epoch, second.trainer.state.iteration) == (3, 3)


def test_new_run_over_an_old_one_is_refused_unless_asked_for(start, tmp_path) -> None:
    start(epochs=1)[0].trainer.run()
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(
        ValueError, match=r"holds last.pt and model.pt of an earlier run.*--resume True.*--overwrite True"
    ):
        start(epochs=2)
    assert (tmp_path / "last.pt").read_bytes() == before
    run, checkpoint = start(epochs=2, overwrite=True)
    assert (run.trainer.state.epoch, checkpoint.best_metric) == (0, None)
    run.trainer.run()
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 2


def test_overwriting_run_that_dies_early_leaves_no_file_of_the_earlier_one(start, tmp_path) -> None:
    start(epochs=1)[0].trainer.run()
    run, _ = start(epochs=2, overwrite=True)
    interrupt_after(run, epoch=0)
    assert os.listdir(tmp_path) == []


def test_overwriting_run_that_is_refused_leaves_the_earlier_one(start, run_factory, tmp_path) -> None:
    start(epochs=1)[0].trainer.run()
    run = run_factory()
    run.evaluator.state.key_metric_name = None
    with pytest.raises(ValueError, match="give the evaluator a key_val_metric"):
        TrainingCheckpoint(tmp_path, **vars(run), overwrite=True).attach()
    assert sorted(os.listdir(tmp_path)) == ["last.pt", "model.pt"]


@pytest.mark.parametrize("name", ["resume", "overwrite"])
@pytest.mark.parametrize("value", ["false", "true", 1, None])
def test_flag_that_is_no_bool_is_refused(run_factory, tmp_path, name, value) -> None:
    message = rf"{name} must be True or False, got {value!r}; on the command line write --{name} True"
    with pytest.raises(ValueError, match=message):
        TrainingCheckpoint.check_output_dir(tmp_path, **{name: value})
    with pytest.raises(ValueError, match=message):
        TrainingCheckpoint(tmp_path, **vars(run_factory()), **{name: value})


def test_folder_can_be_checked_before_anything_is_built(tmp_path) -> None:
    TrainingCheckpoint.check_output_dir(tmp_path / "new")
    with pytest.raises(FileNotFoundError, match=r"there is no .*last.pt. Give the output_dir of an earlier run"):
        TrainingCheckpoint.check_output_dir(tmp_path, resume=True)
    with pytest.raises(ValueError, match="resume and overwrite exclude each other"):
        TrainingCheckpoint.check_output_dir(tmp_path, resume=True, overwrite=True)
    assert not (tmp_path / "new").exists()


def test_progress_tells_how_far_a_run_has_come(start, tmp_path) -> None:
    assert TrainingCheckpoint.progress(tmp_path) is None
    run, checkpoint = start(epochs=3)
    interrupt_after(run, 2)
    length = run.trainer.state.epoch_length
    best = {"best_metric": checkpoint.best_metric, "best_metric_epoch": checkpoint.best_metric_epoch}
    assert TrainingCheckpoint.progress(tmp_path) == {"epoch": 2, "max_epochs": 3, "iteration": 2 * length, **best}


def test_progress_of_a_damaged_file_is_an_error(tmp_path) -> None:
    (tmp_path / "last.pt").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"last\.pt is no checkpoint"):
        TrainingCheckpoint.progress(tmp_path)


def test_resuming_a_finished_run_is_refused(start) -> None:
    start(epochs=2)[0].trainer.run()
    with pytest.raises(ValueError, match=r"is finished: 2 of 2 epochs are done.*resume with more than 2 epochs"):
        start(epochs=2, resume=True)


def test_resuming_with_another_network_is_refused_before_anything_changes(start, run_factory, tmp_path) -> None:
    first, _ = start(epochs=2)
    interrupt_after(first, epoch=1)
    other = type(first.network)(channels=5)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(ValueError, match=r"another network: .* tensors of other shape \(conv.weight"):
        start(epochs=2, network=other, resume=True)
    torch.testing.assert_close(dict(other.state_dict()), before)

    wrapped = torch.nn.Sequential(type(first.network)())
    with pytest.raises(ValueError, match=r"7 tensors missing in the file \(0.conv.weight.*7 tensors unknown to the"):
        start(epochs=2, network=wrapped, resume=True)


def test_resuming_with_other_trained_parameters_is_refused(start, run_factory, tmp_path) -> None:
    first, _ = start(epochs=2)
    interrupt_after(first, epoch=1)
    run = run_factory(epochs=2)
    run.optimizer = torch.optim.Adam(run.network.conv.parameters(), lr=0.05)
    with pytest.raises(ValueError, match="saved while other parameters were trained"):
        TrainingCheckpoint(tmp_path, **vars(run), resume=True).attach()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "no checkpoint, or a damaged one", id="empty"),
        pytest.param(b"PK\x03\x04 not a zip", "no checkpoint, or a damaged one", id="broken"),
        pytest.param({"conv.weight": torch.zeros(1)}, "is not a checkpoint of a training run", id="state_dictionary"),
    ],
)
def test_unreadable_checkpoint_is_refused(start, tmp_path, content, message) -> None:
    if isinstance(content, bytes):
        (tmp_path / "last.pt").write_bytes(content)
    else:
        torch.save(content, tmp_path / "last.pt")
    with pytest.raises(ValueError, match=message):
        start(epochs=2, resume=True)


def test_truncated_checkpoint_is_refused(start, tmp_path) -> None:
    start(epochs=1)[0].trainer.run()
    whole = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="no checkpoint, or a damaged one"):
        start(epochs=2, resume=True)


def test_evaluator_without_key_metric_is_refused(run_factory, tmp_path) -> None:
    run = run_factory()
    run.evaluator.state.key_metric_name = None
    with pytest.raises(ValueError, match="give the evaluator a key_val_metric"):
        TrainingCheckpoint(tmp_path, **vars(run)).attach()


def test_key_metric_of_several_numbers_is_refused(start) -> None:
    run, _ = start(key_metric=CaseDiceMetric(reduction="mean_batch"))
    with pytest.raises(ValueError, match=r'key metric dice must be one number.*use its reduction "mean"'):
        run.trainer.run()


def test_epochs_and_learning_rate_are_logged_when_resuming(start, caplog) -> None:
    first, _ = start(epochs=4)
    interrupt_after(first, epoch=2)
    caplog.set_level(logging.INFO)
    start(epochs=4, resume=True)
    assert "after epoch 2 of 4, learning rate 0.025." in caplog.text


@pytest.mark.parametrize(
    ("changed", "now"),
    [
        pytest.param({"learning_rate": 0.01}, "learning rate 0.01 and 4 epochs", id="learning_rate"),
        pytest.param({"epochs": 6}, "learning rate 0.05 and 6 epochs", id="epochs"),
    ],
)
def test_resuming_with_another_schedule_warns(start, caplog, changed, now) -> None:
    first, _ = start(epochs=4, learning_rate=0.05)
    interrupt_after(first, epoch=2)
    start(**{"epochs": 4, "learning_rate": 0.05, **changed}, resume=True)
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warned == [
        f"The run was started with learning rate 0.05 and 4 epochs, and goes on with {now}: "
        "its schedule follows the new values."
    ]


def test_resuming_with_the_same_schedule_does_not_warn(start, caplog) -> None:
    first, _ = start(epochs=4)
    interrupt_after(first, epoch=2)
    start(epochs=4, resume=True)
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]
