# SPDX-License-Identifier: Apache-2.0
"""What only a GPU can show. Run with ``pytest -m gpu`` on a machine that has one."""

from __future__ import annotations

import copy

import pytest
import torch

from monai_sam2adapter.networks.layers import default_implementation, modulated_deform_conv2d
from monai_sam2adapter.networks.nets import PromptFreeSAM2, SAM2ImageEncoder

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def test_both_deformable_convolutions_agree_for_outputs_and_gradients() -> None:
    shapes = {"x": (2, 16, 20, 24), "offset": (2, 18, 20, 24), "mask": (2, 9, 20, 24), "weight": (8, 16, 3, 3)}
    tensors = [torch.randn(shape, device="cuda", dtype=torch.float64) for shape in shapes.values()]
    results = []
    for implementation in ("torchvision", "grid_sample"):
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        out = modulated_deform_conv2d(*leaves, padding=1, implementation=implementation)
        results.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert default_implementation(torch.device("cuda")) == "torchvision"


@pytest.mark.parametrize("adapter", ["hp", "lw"])
def test_the_network_gives_what_it_gives_on_the_cpu(adapter: str) -> None:
    net = PromptFreeSAM2(variant="tiny", adapter=adapter, out_channels=3).double().eval()
    x = torch.rand(1, 3, 96, 70, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(copy.deepcopy(net).cuda()(x.cuda()).cpu(), net(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("adapter", ["hp", "lw"])
def test_learns_under_autocast(adapter: str, dtype: torch.dtype) -> None:
    net = PromptFreeSAM2(variant="tiny", adapter=adapter, out_channels=2).cuda().train()
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=1e-3)
    scaler = torch.amp.GradScaler(enabled=dtype == torch.float16)
    x = torch.rand(2, 3, 64, 64, device="cuda")
    losses = []
    for _ in range(10):
        with torch.autocast("cuda", dtype):
            loss = torch.nn.functional.cross_entropy(net(x).float(), (x[:, 0] > 0.5).long())
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_windows_are_padded_there_with_the_same_output() -> None:
    encoder = SAM2ImageEncoder("tiny", "sam2").cuda().eval()
    seen: list[int] = []
    encoder.trunk.blocks[4].attn.qkv.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    x = torch.rand(1, 3, 256, 256, device="cuda")
    with torch.no_grad():
        padded = encoder(x)
        for block in encoder.trunk.blocks:
            block.pad_windows = False
        unpadded = encoder(x)
    assert seen[0] == 14
    torch.testing.assert_close(padded, unpadded, rtol=1e-3, atol=1e-3)


def test_frozen_weights_in_bfloat16_take_half_the_memory() -> None:
    net = PromptFreeSAM2("base_plus", "hp").train()
    plain = sum(parameter.nbytes for parameter in net.parameters())
    net.cast_frozen(torch.bfloat16)
    before = torch.cuda.memory_allocated()
    net.cuda()
    assert torch.cuda.memory_allocated() - before < 0.6 * plain
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=1e-3, fused=True)
    x = torch.rand(2, 3, 64, 64, device="cuda")
    losses = []
    for _ in range(10):
        with torch.autocast("cuda", torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(net(x).float(), (x[:, 0] > 0.5).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
