# SPDX-License-Identifier: Apache-2.0
"""HieraBlock equals sam2's MultiScaleBlock, padded or not, and takes adapters."""

from __future__ import annotations

import copy

import pytest
import torch
from sam2.modeling.backbones.hieradet import MultiScaleBlock
from torch import nn

from monai_sam2adapter.networks.blocks import HieraBlock, hiera_block, pads_windows

# settings of sam2's block, tokens (height, width)
PLAIN = {"dim": 24, "dim_out": 24, "num_heads": 3}
POOLED = {"dim": 24, "dim_out": 48, "num_heads": 4, "q_stride": (2, 2)}
CASES = [
    pytest.param({**PLAIN, "window_size": 7}, (14, 21), id="whole windows"),
    pytest.param({**PLAIN, "window_size": 7}, (10, 17), id="cut at both borders"),
    pytest.param({**PLAIN, "window_size": 7}, (14, 10), id="cut at the right"),
    pytest.param({**PLAIN, "window_size": 7}, (9, 21), id="cut at the bottom"),
    pytest.param({**PLAIN, "window_size": 14}, (4, 6), id="smaller than a window"),
    pytest.param({**PLAIN, "window_size": 14}, (1, 1), id="one token"),
    pytest.param({**PLAIN, "window_size": 0}, (10, 7), id="global"),
    pytest.param({**PLAIN, "dim_out": 48, "num_heads": 4, "window_size": 7}, (10, 17), id="wider, not pooled"),
    pytest.param({**POOLED, "window_size": 14}, (28, 14), id="pooled, whole windows"),
    pytest.param({**POOLED, "window_size": 14}, (16, 20), id="pooled, cut at both borders"),
    pytest.param({**POOLED, "window_size": 14}, (4, 6), id="pooled, smaller than a window"),
]


def make_blocks(kwargs, randomize, pad_windows=None):
    reference = randomize(MultiScaleBlock(**kwargs))
    return reference, HieraBlock(copy.deepcopy(reference), pad_windows)


def output_and_gradients(block, x, upstream):
    x = x.clone().requires_grad_()
    block.zero_grad()
    out = block(x)
    (out * upstream).sum().backward()
    return out.detach(), {"input": x.grad, **{name: p.grad for name, p in block.named_parameters()}}


class ChangedWeights(nn.Module):
    """An adapter that is a random change of each weight of the attention."""

    def __init__(self, attn):
        super().__init__()
        self.updates = {
            layer: 0.5 * torch.randn_like(getattr(attn, layer).weight) / attn.dim_out**0.5 for layer in ("qkv", "proj")
        }

    def forward(self, x, layer):
        return x @ self.updates[layer].T


class AddedMeans(nn.Module):
    """An adapter that adds the mean over the map it sees, not zero on zero tokens."""

    def __init__(self, attn):
        super().__init__()
        self.out_features = {layer: getattr(attn, layer).out_features for layer in ("qkv", "proj")}
        self.seen = []

    def forward(self, x, layer):
        self.seen.append(tuple(x.shape))
        added = 1 + x.mean(dim=(1, 2, 3), keepdim=True)
        return added.expand(*x.shape[:3], self.out_features[layer])


class TestHieraBlock:
    @pytest.mark.parametrize("pad_windows", [False, True], ids=["unpadded", "padded"])
    @pytest.mark.parametrize(("kwargs", "size"), CASES)
    def test_equals_sam2_in_output_and_all_gradients(self, kwargs, size, pad_windows, randomize, relative_error):
        reference, block = make_blocks(kwargs, randomize, pad_windows)
        x = torch.randn(2, *size, 24)
        upstream = torch.randn_like(reference(x))
        expected, expected_gradients = output_and_gradients(reference, x, upstream)
        out, gradients = output_and_gradients(block, x, upstream)
        assert relative_error(out, expected) < 1e-5
        assert gradients.keys() == expected_gradients.keys()
        errors = {name: relative_error(gradients[name], expected_gradients[name]) for name in gradients}
        assert max(errors.values()) < 1e-5, errors

    def test_unpadded_attention_takes_no_pad_tokens(self, randomize):
        _, block = make_blocks({**PLAIN, "window_size": 7}, randomize)
        seen = []
        block.attn.qkv.register_forward_pre_hook(lambda _, args: seen.append(args[0].numel() // 24))
        block(torch.randn(2, 10, 17, 24))
        block.pad_windows = True
        block(torch.randn(2, 10, 17, 24))
        assert seen == [2 * 10 * 17, 2 * 14 * 21]

    @pytest.mark.parametrize(("device", "expected"), [("cuda", True), ("cuda:1", True), ("cpu", False), ("mps", False)])
    def test_windows_are_padded_on_cuda(self, device, expected):
        assert pads_windows(torch.device(device)) == expected

    @pytest.mark.parametrize("choice", [None, True, False])
    def test_the_devices_rule_holds_where_nothing_is_chosen(self, choice, randomize, monkeypatch):
        _, block = make_blocks({**PLAIN, "window_size": 7}, randomize, choice)
        block = block.to("meta")  # stands for a device with another rule than the CPU's
        monkeypatch.setattr(hiera_block, "pads_windows", lambda device: device.type == "meta")
        seen = []
        block.attn.qkv.register_forward_pre_hook(lambda _, args: seen.append(args[0].numel() // 24))
        block(torch.empty(2, 10, 17, 24, device="meta"))
        assert seen == [2 * 10 * 17 if choice is False else 2 * 14 * 21]

    @pytest.mark.parametrize(("kwargs", "size"), CASES)
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_autocast_is_finite_and_near_float32(self, kwargs, size, dtype, randomize, relative_error):
        _, block = make_blocks(kwargs, randomize)
        x = torch.randn(2, *size, 24)
        with torch.autocast("cpu", dtype=dtype):
            out = block(x)
            out.float().square().mean().backward()
        assert relative_error(out.float(), block(x)) < 0.05
        assert all(parameter.grad.isfinite().all() for parameter in block.parameters())

    @pytest.mark.filterwarnings("ignore:`torch.jit.trace:FutureWarning")
    @pytest.mark.parametrize(
        "kwargs", [{**PLAIN, "window_size": 7}, {**POOLED, "window_size": 14}], ids=["plain", "pooled"]
    )
    @pytest.mark.parametrize(
        "example_size", [(14, 28), (10, 18)], ids=["traced without padding", "traced with padding"]
    )
    def test_trace_serves_every_size(self, kwargs, example_size, randomize, relative_error):
        _, block = make_blocks(kwargs, randomize)
        traced = torch.jit.trace(block, torch.randn(1, *example_size, 24))
        for size in ((14, 28), (10, 18), (28, 28), (2, 30)):
            x = torch.randn(2, *size, 24)
            assert relative_error(traced(x), block(x)) < 1e-5


class TestAdapterSlots:
    def test_block_slot_is_in_front_of_the_block(self, randomize, relative_error):
        reference, block = make_blocks({**POOLED, "window_size": 14}, randomize)
        adapter = nn.Linear(block.slot_channels("block"), 24)
        block.add_adapter("mine", "block", adapter)
        x = torch.randn(2, 16, 20, 24)
        assert relative_error(block(x), reference(x + adapter(x))) < 1e-5

    def test_mlp_slot_is_beside_the_mlp_on_the_normalized_input(self, randomize, relative_error):
        reference, block = make_blocks({**POOLED, "window_size": 14}, randomize)
        adapter = nn.Linear(block.slot_channels("mlp"), 48)
        block.add_adapter("mine", "mlp", adapter)
        x = torch.randn(2, 16, 20, 24)
        normalized = []
        reference.norm2.register_forward_hook(lambda module, args, out: normalized.append(out))
        expected = reference(x)
        assert relative_error(block(x), expected + adapter(normalized[0])) < 1e-5

    @pytest.mark.parametrize("pad_windows", [False, True], ids=["unpadded", "padded"])
    @pytest.mark.parametrize(("kwargs", "size"), CASES)
    def test_attention_slot_is_beside_both_layers(self, kwargs, size, pad_windows, randomize, relative_error):
        reference, block = make_blocks(kwargs, randomize, pad_windows)
        adapter = ChangedWeights(reference.attn)
        block.add_adapter("mine", "attention", adapter)
        x = torch.randn(2, *size, block.slot_channels("attention"))
        before = reference(x)
        with torch.no_grad():
            for layer in ("qkv", "proj"):
                getattr(reference.attn, layer).weight += adapter.updates[layer]
        assert relative_error(block(x), reference(x)) < 1e-5
        assert relative_error(before, reference(x)) > 0.01

    @pytest.mark.parametrize(("kwargs", "size"), CASES)
    def test_attention_slot_sees_the_whole_map_and_no_pad_token(self, kwargs, size, randomize, relative_error):
        outputs = []
        for pad_windows in (False, True):
            block = make_blocks(kwargs, randomize, pad_windows)[1]
            adapter = AddedMeans(block.attn)
            block.add_adapter("mine", "attention", adapter)
            outputs.append(block(torch.ones(2, *size, 24).cumsum(1) / 10))
            stride = 2 if "q_stride" in kwargs else 1
            assert adapter.seen == [(2, *size, 24), (2, size[0] // stride, size[1] // stride, block.dim_out)]
        assert relative_error(*outputs) < 1e-5

    def test_two_adapters_add_up(self, randomize, relative_error):
        reference, block = make_blocks({**PLAIN, "window_size": 7}, randomize)
        first, second = nn.Linear(24, 24), nn.Linear(24, 24)
        block.add_adapter("first", "mlp", first)
        block.add_adapter("second", "mlp", second)
        both = block(x := torch.randn(2, 10, 17, 24))
        alone = []
        for adapter in (first, second):
            block.remove_adapters()
            block.add_adapter("alone", "mlp", adapter)
            alone.append(block(x))
        assert relative_error(both, alone[0] + alone[1] - reference(x)) < 1e-5

    def test_a_taken_name_and_an_unknown_slot_are_refused(self, randomize):
        _, block = make_blocks({**PLAIN, "window_size": 7}, randomize)
        block.add_adapter("mine", "mlp", first := nn.Linear(24, 24))
        for name, slot, message in (("mine", "block", "has an adapter 'mine' already"), ("x", "mpl", "mean 'mlp'")):
            with pytest.raises(ValueError, match=message):
                block.add_adapter(name, slot, nn.Linear(24, 24))
        assert dict(block.adapters) == {"mine": first}
        with pytest.raises(ValueError, match="did you mean 'block'"):
            block.slot_channels("blocks")
