# SPDX-License-Identifier: Apache-2.0
"""A fused RepConv2d equals its branches."""

from __future__ import annotations

import copy

import pytest
import torch

from monai_sam2adapter.networks.layers import RepConv2d

SETTINGS = [
    pytest.param({"in_channels": 6, "out_channels": 6}, True, id="identity branch"),
    pytest.param({"in_channels": 6, "out_channels": 6, "groups": 6}, True, id="depthwise"),
    pytest.param({"in_channels": 6, "out_channels": 6, "groups": 2}, True, id="groups"),
    pytest.param({"in_channels": 6, "out_channels": 6, "kernel_size": 5, "groups": 6}, True, id="5x5"),
    pytest.param({"in_channels": 6, "out_channels": 6, "stride": 2}, False, id="stride 2"),
    pytest.param({"in_channels": 6, "out_channels": 6, "stride": 2, "groups": 6}, False, id="depthwise stride 2"),
    pytest.param({"in_channels": 6, "out_channels": 4}, False, id="unequal channels"),
    pytest.param({"in_channels": 6, "out_channels": 12, "groups": 3}, False, id="unequal channels, groups"),
]
TOLERANCES = [pytest.param(torch.float64, 1e-10, id="float64"), pytest.param(torch.float32, 1e-5, id="float32")]


class TestRepConv2d:
    @pytest.mark.parametrize(("kwargs", "has_identity"), SETTINGS)
    def test_has_an_identity_branch_where_shapes_allow(self, kwargs, has_identity):
        assert hasattr(RepConv2d(**kwargs), "branch_identity") is has_identity

    @pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
    @pytest.mark.parametrize(("kwargs", "has_identity"), SETTINGS)
    def test_fused_equals_branches(self, kwargs, has_identity, dtype, tolerance, randomize, relative_error):
        layer = randomize(RepConv2d(**kwargs)).to(dtype).eval()
        x = torch.randn(2, 6, 9, 13, dtype=dtype)
        expected = layer(x)
        layer.reparameterize()
        assert layer.fused
        assert layer.conv.weight.dtype == dtype
        assert relative_error(layer(x), expected) < tolerance

    @pytest.mark.parametrize(("kwargs", "has_identity"), SETTINGS)
    def test_every_branch_contributes(self, kwargs, has_identity, randomize):
        layer = randomize(RepConv2d(**kwargs)).eval()
        x = torch.randn(2, 6, 9, 13)
        expected = layer(x)
        for name, branch in layer.named_children():
            without = copy.deepcopy(layer)
            norm = getattr(getattr(without, name), "norm", getattr(without, name))
            torch.nn.init.zeros_(norm.weight)
            assert not torch.allclose(without(x), expected), f"{name} does not matter: {branch}"

    @pytest.mark.parametrize(("kwargs", "has_identity"), SETTINGS)
    def test_leaves_one_convolution_with_the_keys_and_outputs_of_a_layer_built_fused(
        self, kwargs, has_identity, randomize
    ):
        layer = randomize(RepConv2d(**kwargs)).eval()
        layer.reparameterize()
        built = RepConv2d(**kwargs, fused=True).eval()
        assert list(layer.state_dict()) == list(built.state_dict()) == ["conv.weight", "conv.bias"]
        assert len(list(layer.modules())) == 2
        built.load_state_dict(layer.state_dict())
        x = torch.randn(2, 6, 9, 13)
        assert torch.equal(built(x), layer(x))

    def test_twice_is_harmless(self, randomize):
        layer = randomize(RepConv2d(6, 6)).eval()
        layer.reparameterize()
        conv, state = layer.conv, copy.deepcopy(layer.state_dict())
        layer.reparameterize()
        assert layer.conv is conv
        assert all(torch.equal(value, state[key]) for key, value in layer.state_dict().items())

    @pytest.mark.parametrize("in_training", ["layer", "one norm"])
    def test_training_mode_is_refused_and_nothing_changes(self, in_training, randomize):
        layer = randomize(RepConv2d(6, 6)).eval()
        (layer if in_training == "layer" else layer.branch_kxk.norm).train()
        state, children = copy.deepcopy(layer.state_dict()), list(layer.children())
        with pytest.raises(RuntimeError, match=r"eval mode only; call \.eval\(\)"):
            layer.reparameterize()
        assert not layer.fused
        assert list(layer.children()) == children
        assert layer.state_dict().keys() == state.keys()
        assert all(torch.equal(value, state[key]) for key, value in layer.state_dict().items())

    @pytest.mark.parametrize("frozen", [True, False])
    def test_keeps_whether_it_is_trained(self, frozen):
        layer = RepConv2d(6, 6).eval().requires_grad_(not frozen)
        layer.reparameterize()
        assert all(parameter.requires_grad is not frozen for parameter in layer.parameters())

    def test_trains_in_all_branches(self):
        layer = RepConv2d(6, 6)
        layer(torch.randn(2, 6, 9, 13)).square().sum().backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())

    @pytest.mark.parametrize(
        ("kwargs", "expected_shape"),
        [({}, (2, 6, 9, 13)), ({"stride": 2}, (2, 6, 5, 7)), ({"kernel_size": 7}, (2, 6, 9, 13))],
        ids=["default", "stride", "7x7"],
    )
    @pytest.mark.parametrize("fused", [True, False])
    def test_shape(self, kwargs, expected_shape, fused):
        assert RepConv2d(6, 6, fused=fused, **kwargs)(torch.rand(2, 6, 9, 13)).shape == expected_shape

    @pytest.mark.parametrize("kernel_size", [1, 2, 4, -3])
    def test_ill_arg(self, kernel_size):
        with pytest.raises(ValueError, match=f"kernel_size must be odd and at least 3, got {kernel_size}"):
            RepConv2d(6, 6, kernel_size=kernel_size)
