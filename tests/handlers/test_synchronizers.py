# SPDX-License-Identifier: Apache-2.0
"""Processes evaluate the network of the first one and log the mean loss; for real in bundles/test_multi_process.py."""

from __future__ import annotations

import ignite.distributed as idist
import pytest
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from monai.handlers import from_engine

from monai_sam2adapter.handlers import BufferSynchronizer, LossSynchronizer


def evaluate(network: torch.nn.Module) -> torch.Tensor:
    """What the network gives in an evaluation of one image."""
    engine = Engine(lambda engine, batch: network(batch))
    BufferSynchronizer(network).attach(engine)
    network.eval()
    return engine.run([torch.ones(1, 2, 3, 3)]).output


@pytest.fixture
def network() -> torch.nn.Module:
    network = torch.nn.BatchNorm2d(2)
    network(torch.rand(4, 2, 3, 3))
    return network


def test_buffers_of_the_first_process_are_used(network: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    first = torch.nn.BatchNorm2d(2)
    first(torch.rand(4, 2, 3, 3) + 5)
    sent = iter(first.buffers())
    monkeypatch.setattr(idist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "broadcast", lambda tensor, src: tensor.copy_(next(sent)))
    expected = first.eval()(torch.ones(1, 2, 3, 3))
    assert not torch.allclose(network.eval()(torch.ones(1, 2, 3, 3)), expected)
    torch.testing.assert_close(evaluate(network), expected)


def test_one_process_sends_nothing(network: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "broadcast", lambda *arguments, **options: pytest.fail("nothing to send"))
    engine = Engine(lambda engine, batch: None)
    BufferSynchronizer(network).attach(engine)
    assert not engine.has_event_handler(BufferSynchronizer, Events.EPOCH_STARTED)
    evaluate(network)


def test_the_mean_loss_is_logged_and_each_process_has_its_own_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idist, "get_world_size", lambda: 2)
    monkeypatch.setattr(idist, "all_reduce", lambda loss: loss.mul_(3))  # the other process has twice the loss
    network = torch.nn.Conv2d(1, 1, 1, bias=False)
    with torch.no_grad():
        network.weight.fill_(2.0)
    item = {"image": torch.ones(2, 1, 3, 3), "label": torch.zeros(2, 1, 3, 3)}
    trainer = SupervisedTrainer(
        device="cpu", max_epochs=1, train_data_loader=[item], network=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.25), loss_function=torch.nn.MSELoss(),
        train_handlers=[LossSynchronizer()],
    )  # fmt: skip
    trainer.run()
    assert from_engine("loss", first=True)(trainer.state.output) == pytest.approx(1.5 * 4.0)
    assert network.weight.item() == pytest.approx(2.0 - 0.25 * 4.0)  # the derivative of (2 w)^2 / 4, its own
