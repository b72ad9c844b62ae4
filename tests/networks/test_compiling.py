# SPDX-License-Identifier: Apache-2.0
"""The backend of torch.compile: few graphs, the same output, and the network as it is where compiling fails."""

from __future__ import annotations

import logging

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from monai_sam2adapter.networks.adapters import inject_adapters
from monai_sam2adapter.networks.compiling import InductorOrEager, compile_options
from monai_sam2adapter.networks.nets import HieraTrunk, PromptFreeSAM2


@pytest.fixture
def network():
    torch._dynamo.reset()
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))


@pytest.fixture
def graphs(monkeypatch):
    """Graphs that were handed to Inductor, which here takes each as it is."""
    found = []

    def compile_graph(graph, inputs, options):
        found.append(options)
        return graph.forward

    monkeypatch.setattr(torch._inductor, "compile", compile_graph)
    return found


def assert_same(network, compiled, x):
    """Outputs and gradients."""
    network.zero_grad()
    compiled(x).square().sum().backward()
    gradients = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    network(x).square().sum().backward()
    torch.testing.assert_close(compiled(x), network(x))
    torch.testing.assert_close(gradients, [parameter.grad for parameter in network.parameters()])


def test_one_graph_for_the_first_batch_and_one_for_all_others(network, graphs):
    compiled = torch.compile(network, **compile_options("cpu"))
    counts = []
    with torch.no_grad():
        for batch in (8, 8, 3, 5, 7, 8):
            x = torch.rand(batch, 3, 8, 8)
            torch.testing.assert_close(compiled(x), network(x))
            counts.append(len(graphs))
    assert counts == [1, 1, 2, 2, 2, 2]


def test_batches_are_a_symbol_and_image_sizes_are_numbers():
    """Recording a network with symbols for its sizes lasts ten times as long."""
    torch._dynamo.reset()
    symbols = []

    def backend(graph, inputs):
        symbols.append(sum(isinstance(value, torch.SymInt) for value in inputs))
        return graph.forward

    network = PromptFreeSAM2("tiny", "none").eval()
    network.image_encoder = _FirstMaps()
    compiled = torch.compile(network, backend=backend)
    with torch.no_grad():
        for shape in ((4, 64, 64), (3, 64, 64), (2, 96, 64), (3, 96, 64)):
            compiled(torch.rand(shape[0], 3, *shape[1:]))
    assert symbols == [0, 1, 1]


class _FirstMaps(nn.Module):
    """In place of the encoder, whose many blocks take long to record."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 256, 4, stride=4)

    def forward(self, x):
        maps = self.conv(x)
        return [maps, F.max_pool2d(maps, 2), F.max_pool2d(maps, 4)]


def test_many_sizes_are_all_compiled(network, graphs):
    """PyTorch's own limit would leave those after the eighth as they are."""
    compiled = torch.compile(network, dynamic=False, **compile_options("cpu"))
    with torch.no_grad():
        for side in range(4, 16):
            compiled(torch.rand(1, 3, side, side))
    assert len(graphs) == 12


@pytest.mark.parametrize(("device", "expected"), [("cpu", False), ("cuda:1", True), (torch.device("cuda"), True)])
def test_cuda_graphs_on_cuda(device, expected, graphs):
    backend = compile_options(device)["backend"]
    assert backend.cuda_graphs == expected
    output = torch.zeros(3)
    module = torch.fx.symbolic_trace(nn.Identity())
    module.forward = lambda: (output, 7)
    tensor, number = backend(module, [])()
    # the next run of a CUDA graph writes into the memory of its outputs
    assert (tensor is output) != expected
    assert torch.equal(tensor, output)
    assert number == 7
    assert graphs == [{"triton.cudagraphs": expected}]


@pytest.mark.parametrize("when", ["compiled", "run"])
def test_where_it_fails_the_network_runs_as_it_is_after_one_line(network, monkeypatch, caplog, when):
    def fail(*args):
        raise RuntimeError("no C++ compiler\nat all")

    monkeypatch.setattr(torch._inductor, "compile", fail if when == "compiled" else lambda *args: fail)
    compiled = torch.compile(network, **compile_options("cpu"))
    with caplog.at_level(logging.WARNING, "monai_sam2adapter"):
        assert_same(network, compiled, torch.rand(2, 3, 8, 8))
        assert_same(network, compiled, torch.rand(3, 3, 8, 8))
    assert caplog.messages == ["torch.compile failed, so the network runs without it: no C++ compiler"]


@pytest.mark.parametrize("backend", ["aot_eager", "fallback"])
def test_recomputed_blocks_change_statistics_once(backend, monkeypatch):
    """The adapter ``lw`` has BatchNorm, and its block runs again in the backward pass."""
    monkeypatch.setattr(torch._inductor, "compile", lambda *args: 1 / 0)
    torch._dynamo.reset()
    trunks = [HieraTrunk("tiny", activation_checkpointing=True) for _ in range(2)]
    for trunk in trunks:
        trunk.blocks = trunk.blocks[:2]
        inject_adapters(trunk, "lw")
        trunk.load_state_dict(trunks[0].state_dict())
    compiled = torch.compile(trunks[1], backend=InductorOrEager() if backend == "fallback" else backend)
    x = torch.rand(2, 3, 32, 32)
    for run in (trunks[0], compiled):
        for _ in range(2):
            run(x)[0].square().mean().backward()
    expected, found = ([parameter.grad for parameter in trunk.blocks.parameters()] for trunk in trunks)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(list(trunks[1].buffers()), list(trunks[0].buffers()))


@pytest.mark.slow
def test_inductor_itself(network, caplog):
    with caplog.at_level(logging.WARNING, "monai_sam2adapter"):
        assert_same(network, torch.compile(network, **compile_options("cpu")), torch.rand(2, 3, 8, 8))
    assert not caplog.messages


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("adapter", ["hp", "lw"])
def test_cuda_graphs_give_what_the_network_gives(adapter, caplog):
    torch._dynamo.reset()
    network = PromptFreeSAM2("tiny", adapter, out_channels=3).cuda().eval()
    compiled = torch.compile(network, **compile_options("cuda"))
    images = [torch.rand(batch, 3, 64, 64, device="cuda") for batch in (4, 4, 4, 2, 3)]
    with caplog.at_level(logging.WARNING, "monai_sam2adapter"), torch.no_grad():
        outputs = [compiled(x) for x in images]  # all kept
        for x, output in zip(images, outputs, strict=True):
            torch.testing.assert_close(output, network(x), rtol=1e-2, atol=1e-2)
    network.train()
    compiled(images[0]).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.requires_grad and p.grad is not None)
    assert not caplog.messages


def test_further_graphs_are_not_tried_after_a_failure(monkeypatch):
    tried = []

    def fail(*args):
        tried.append(args)
        raise RuntimeError

    monkeypatch.setattr(torch._inductor, "compile", fail)
    backend = InductorOrEager()
    for _ in range(2):
        assert backend(torch.fx.symbolic_trace(nn.ReLU()), [])(torch.tensor(-1.0)) == 0
    assert len(tried) == 1
