# SPDX-License-Identifier: Apache-2.0
"""NonFiniteLossHandler: a run with a NaN loss fails, and keeps its good checkpoint."""

from __future__ import annotations

import math

import pytest
import torch
from monai.handlers import StatsHandler

from monai_sam2adapter.handlers import NonFiniteLossHandler


class LossThatBreaks(torch.nn.Module):
    """Fine for a number of calls, then ``value``."""

    def __init__(self, good_calls: int, value: float) -> None:
        super().__init__()
        self.good_calls = good_calls
        self.value = value

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        self.good_calls -= 1
        loss = logits.square().mean()
        return loss if self.good_calls >= 0 else loss * self.value


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("others", [[], [StatsHandler()]], ids=["alone", "with_stats_handler"])
def test_run_stops_before_the_weights_change(run_factory, checkpoint_of, tmp_path, value, others) -> None:
    run = run_factory(epochs=5, loss_function=LossThatBreaks(3, value), handlers=[*others, NonFiniteLossHandler()])
    checkpoint_of(run, tmp_path)
    with pytest.raises(RuntimeError, match=rf"loss is {value} at epoch 2, iteration 4, learning rate 0.0452.*--amp F"):
        run.trainer.run()
    assert all(tensor.isfinite().all() for tensor in run.network.state_dict().values())
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 1


def test_finite_loss_is_left_alone(run_factory) -> None:
    run = run_factory(epochs=2, handlers=[NonFiniteLossHandler()])
    run.trainer.run()
    assert run.trainer.state.epoch == 2
