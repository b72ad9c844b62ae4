# SPDX-License-Identifier: Apache-2.0
"""EpochProgressBar: one bar an epoch, few lines in a log file."""

from __future__ import annotations

import ignite.distributed as idist
import pytest

from monai_sam2adapter.handlers import EpochProgressBar


def last_states(text: str) -> list[str]:
    """What is left on the screen: of each line, the text after its last carriage return."""
    return [line.rsplit("\r", 1)[-1] for line in text.split("\n") if line.strip()]


def test_trainer_shows_epoch_and_loss(run_factory, capsys) -> None:
    run = run_factory(epochs=2, handlers=[EpochProgressBar()])
    run.trainer.run()
    bars = last_states(capsys.readouterr().err)
    assert len(bars) == 2
    for number, bar in enumerate(bars, start=1):
        assert bar.startswith(f"Epoch {number}/2: 100%")
        assert "2/2" in bar
    assert f"loss={run.trainer.state.output[0]['loss']:.4g}" in bars[1]


def test_evaluator_shows_cases(evaluator_factory, tiny_network, capsys) -> None:
    evaluator_factory(tiny_network, val_handlers=[EpochProgressBar()]).run()
    error = capsys.readouterr().err
    assert "Evaluation: 100%" in error
    assert "3/3" in error
    evaluator_factory(tiny_network, val_handlers=[EpochProgressBar(desc="Test set")]).run()
    assert "Test set: 100%" in capsys.readouterr().err


def test_log_file_is_not_flooded(run_factory, capsys) -> None:
    """Where standard error is no terminal, only the start and the end of each epoch are drawn."""
    run = run_factory(epochs=1, epoch_length=50, handlers=[EpochProgressBar()])
    run.trainer.run()
    assert capsys.readouterr().err.count("Epoch 1/1") == 2


def test_interval_between_updates_can_be_set(run_factory, capsys) -> None:
    run = run_factory(epochs=1, epoch_length=50, handlers=[EpochProgressBar(log_interval=0)])
    run.trainer.run()
    assert capsys.readouterr().err.count("Epoch 1/1") > 10


def test_other_processes_show_nothing(run_factory, capsys, monkeypatch) -> None:
    monkeypatch.setattr(idist, "get_rank", lambda: 1)
    run_factory(epochs=1, handlers=[EpochProgressBar()]).trainer.run()
    assert "Epoch" not in capsys.readouterr().err


@pytest.mark.parametrize("decollate", [True, False])
def test_loss_is_found_in_dictionary_and_list(run_factory, capsys, decollate) -> None:
    run_factory(epochs=1, decollate=decollate, handlers=[EpochProgressBar()]).trainer.run()
    assert "loss=" in capsys.readouterr().err
