# SPDX-License-Identifier: Apache-2.0
"""All processes evaluate the network of the first one. Two real processes: tests/bundles/test_multi_process.py."""

from __future__ import annotations

import ignite.distributed as idist
import pytest
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events

from monai_sam2adapter.handlers import BufferSynchronizer


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
