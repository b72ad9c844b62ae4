# SPDX-License-Identifier: Apache-2.0
"""Fusing whole networks."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from monai_sam2adapter.networks.layers import RepConv2d
from monai_sam2adapter.networks.nets import PromptFreeSAM2
from monai_sam2adapter.networks.utils import reparameterize_model


@pytest.fixture(scope="module")
def lw_net(randomize):
    """An LW-Adapter net with random weights and statistics in eval mode; tests must leave it as it is."""
    return randomize(PromptFreeSAM2("tiny", adapter="lw", in_channels=1, out_channels=4)).eval()


def size_of(model):
    return sum(p.numel() for p in model.parameters()), len(list(model.modules()))


def snapshot(model):
    return copy.deepcopy(model.state_dict()), [id(module) for module in model.modules()]


def assert_unchanged(model, before):
    state, modules = before
    assert [id(module) for module in model.modules()] == modules
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


class TestReparameterizeModel:
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-6)], ids=str)
    def test_whole_net_has_the_same_output(self, lw_net, dtype, tolerance, relative_error):
        # Not to 1e-10 in float64: sam2's feature pyramid sums in float32 in any network.
        net = copy.deepcopy(lw_net).to(dtype)
        x = torch.rand(2, 1, 100, 75, dtype=dtype)
        with torch.no_grad():
            assert relative_error(reparameterize_model(net)(x), net(x)) < tolerance

    def test_trunk_is_exact_in_float64(self, lw_net, relative_error):
        trunk = copy.deepcopy(lw_net.image_encoder.trunk).double()
        x = torch.rand(1, 3, 64, 96, dtype=torch.float64)
        with torch.no_grad():
            for fused, expected in zip(reparameterize_model(trunk)(x), trunk(x), strict=True):
                assert relative_error(fused, expected) < 1e-10

    def test_fused_net_is_smaller_and_the_original_is_untouched(self, lw_net):
        before, (parameters, modules) = snapshot(lw_net), size_of(lw_net)
        fused = reparameterize_model(lw_net)
        assert fused is not lw_net
        assert_unchanged(lw_net, before)
        # Each of 12 blocks: 5 BatchNorm-and-convolution modules in 2 containers become one convolution.
        assert size_of(fused)[1] == modules - 12 * (7 - 1)
        # By width of the bottleneck: 9 + 1 weights and 3 * 2 for the norms become 9 weights and a bias.
        widths = [block.dim_out // 4 for block in lw_net.image_encoder.trunk.blocks]
        assert size_of(fused)[0] == parameters - sum(widths) * (16 - 10)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
        assert not fused.training

    def test_in_place(self, lw_net):
        net = copy.deepcopy(lw_net)
        x = torch.rand(1, 1, 64, 64)
        expected = reparameterize_model(lw_net)(x)
        assert reparameterize_model(net, inplace=True) is net
        assert all(module.fused for module in net.modules() if isinstance(module, RepConv2d))
        assert torch.equal(net(x), expected)

    def test_twice_changes_nothing_more(self, lw_net):
        fused = reparameterize_model(lw_net)
        before = snapshot(fused)
        assert reparameterize_model(fused, inplace=True) is fused
        assert_unchanged(fused, before)

    @pytest.mark.parametrize("inplace", [False, True], ids=["copy", "in place"])
    def test_the_layer_itself_may_be_the_root(self, inplace, randomize, relative_error):
        layer = randomize(RepConv2d(6, 6, groups=6)).eval()
        x = torch.randn(2, 6, 9, 13)
        expected = layer(x)
        fused = reparameterize_model(layer, inplace)
        assert fused.fused
        assert layer.fused is inplace
        assert relative_error(fused(x), expected) < 1e-5

    @pytest.mark.parametrize("in_training", ["net", "one adapter", "one norm"])
    @pytest.mark.parametrize("inplace", [False, True], ids=["copy", "in place"])
    def test_training_mode_is_refused_and_nothing_is_fused(self, lw_net, in_training, inplace):
        net = copy.deepcopy(lw_net)
        layers = [module for module in net.modules() if isinstance(module, RepConv2d)]
        {"net": net, "one adapter": layers[-1], "one norm": layers[-1].branch_1x1.norm}[in_training].train()
        before = snapshot(net)
        with pytest.raises(RuntimeError, match=r"PromptFreeSAM2 is in training mode; call \.eval\(\) before fusing"):
            reparameterize_model(net, inplace)
        assert_unchanged(net, before)

    def test_net_with_nothing_to_fuse_is_copied(self):
        net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()
        fused = reparameterize_model(net)
        assert fused is not net
        assert size_of(fused) == size_of(net)
