# SPDX-License-Identifier: Apache-2.0
"""LoRA goes into the weights and comes out of them."""

from __future__ import annotations

import copy

import pytest
import torch

from monai_sam2adapter.networks.adapters import (
    Adapter,
    LoRAAdapter,
    LoRAConfig,
    inject_adapters,
    merge_adapters,
    remove_adapters,
    unmerge_adapters,
)
from monai_sam2adapter.networks.nets import PromptFreeSAM2
from monai_sam2adapter.networks.utils import reparameterize_model
from monai_sam2adapter.networks.weights import load_adapter, save_adapter

X = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def net(randomize):
    return randomize(PromptFreeSAM2("tiny", "lora", out_channels=3)).eval()


def state_of(net):
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def assert_same_state(net, state):
    assert net.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("how", ["merge_adapters", "reparameterize_model"])
def test_trunk_is_exact_in_float64(how, net, relative_error):
    trunk = net.image_encoder.trunk.double()
    with torch.no_grad():
        expected = trunk(X.double())
        plain = copy.deepcopy(trunk)
        assert remove_adapters(plain) == 12
        assert relative_error(plain(X.double())[-1], expected[-1]) > 0.01
        if how == "merge_adapters":
            assert merge_adapters(trunk) == 12
        else:
            trunk = reparameterize_model(trunk)
        assert not any(isinstance(module, Adapter) for module in trunk.modules())
        for got, wanted in zip(trunk(X.double()), expected, strict=True):
            assert relative_error(got, wanted) < 1e-10


def test_weights_by_their_formula(net, relative_error):
    before = state_of(net)
    merge_adapters(net)
    block = "image_encoder.trunk.blocks.2."
    for layer in ("qkv", "proj"):
        down, up = (before[f"{block}adapters.lora.{layer}.{index}.weight"] for index in (0, 1))
        expected = before[f"{block}attn.{layer}.weight"] + up @ down
        assert relative_error(net.state_dict()[f"{block}attn.{layer}.weight"], expected) < 1e-6


def test_merged_net_is_one_without_adapters(net, relative_error):
    with torch.no_grad():
        expected = net(X)
        fused = reparameterize_model(net)
        assert torch.equal(net(X), expected)
        assert fused.config["adapter"] == "none"
        other = PromptFreeSAM2(**fused.config).eval()
        other.load_state_dict(fused.state_dict())
        assert torch.equal(other(X), fused(X))
        assert relative_error(other(X), expected) < 1e-4
    assert unmerge_adapters(fused) == 0


def test_unmerging_gives_the_same_bits_back_and_training_goes_on(net):
    before, trained = state_of(net), [p for p in net.parameters() if p.requires_grad]
    with torch.no_grad():
        expected = net(X)
    merge_adapters(net)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert unmerge_adapters(net) == 12
    assert_same_state(net, before)
    assert [id(p) for p in net.parameters() if p.requires_grad] == [id(p) for p in trained]
    with torch.no_grad():
        assert torch.equal(net(X), expected)
    net.train()(X).square().sum().backward()
    assert all(p.grad is not None for p in trained)
    assert unmerge_adapters(net) == 0


def test_two_merges_and_one_way_back(net, randomize, relative_error):
    before = state_of(net)
    merge_adapters(net)
    for block in net.image_encoder.trunk.blocks:
        second = randomize(LoRAAdapter(block.dim, LoRAConfig(scale=0.1), block.dim_out)).eval()
        block.add_adapter("second", "attention", second)
    with torch.no_grad():
        expected = net(X)
        assert merge_adapters(net) == 12
        assert relative_error(net(X), expected) < 1e-4
    assert unmerge_adapters(net) == 24
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in before.items())
    with torch.no_grad():
        assert relative_error(net(X), expected) < 1e-4


def test_unmerged_adapters_follow_the_net(net):
    merge_adapters(net)
    net.bfloat16()
    unmerge_adapters(net)
    assert {parameter.dtype for parameter in net.parameters()} == {torch.bfloat16}


def test_removal_of_merged_adapters_gives_the_base_back(net):
    base = {name: tensor for name, tensor in state_of(net).items() if ".adapters." not in name}
    merge_adapters(net)
    assert remove_adapters(net) == 12
    assert_same_state(net, base)


def test_copy_of_a_merged_net_is_independent(net):
    before = state_of(net)
    merge_adapters(net)
    merged = state_of(net)
    other = copy.deepcopy(net)
    unmerge_adapters(other)
    assert_same_state(other, before)
    assert_same_state(net, merged)


def test_adapter_of_the_name_is_not_put_beside_a_merged_one(net):
    merge_adapters(net)
    with pytest.raises(ValueError, match="have an adapter 'lora' already; call remove_adapters first"):
        inject_adapters(net.image_encoder, "lora")


def test_file_of_the_adapter_is_saved_after_unmerging(net, tmp_path, randomize):
    with torch.no_grad():
        expected = net(X)
    merge_adapters(net)
    unmerge_adapters(net)
    save_adapter(net, tmp_path / "a.safetensors")
    other = PromptFreeSAM2("tiny", "lora", out_channels=3).eval()
    other.load_state_dict({name: net.state_dict()[name] for name in net.sam2_state_names()}, strict=False)
    load_adapter(other, tmp_path / "a.safetensors")
    with torch.no_grad():
        assert torch.equal(other(X), expected)


@pytest.mark.parametrize("method", ["conv_lora", "hp"])
def test_other_methods_cannot_be_merged_and_nothing_is(method, net):
    inject_adapters(net.image_encoder, method, {"blocks": [-1]})
    before = state_of(net)
    with pytest.raises(ValueError, match=f"adapter '{method}' cannot be merged: only a method that changes a weight"):
        merge_adapters(net)
    assert_same_state(net, before)


def test_fusing_leaves_conv_lora_as_it_is(randomize):
    net = randomize(PromptFreeSAM2("tiny", "conv_lora")).eval()
    with torch.no_grad():
        assert torch.equal(reparameterize_model(net)(X), net(X))
