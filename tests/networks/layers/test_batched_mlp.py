# SPDX-License-Identifier: Apache-2.0
"""BatchedMLP equals a list of sam2's MLPs."""

from __future__ import annotations

import pytest
import torch
from sam2.modeling.sam2_utils import MLP

from monai_sam2adapter.networks.layers import BatchedMLP


@torch.no_grad()
def stack(batched: BatchedMLP, mlps: list[MLP]) -> None:
    for index, mlp in enumerate(mlps):
        for layer, weight, bias in zip(mlp.layers, batched.weights, batched.biases, strict=True):
            weight[index].copy_(layer.weight)
            bias[index].copy_(layer.bias)


class TestBatchedMLP:
    @pytest.mark.parametrize("num_mlps", [1, 4])
    @pytest.mark.parametrize("channels", [(16, 16, 16, 5), (16, 8, 3), (16, 5)], ids=str)
    def test_equals_sam2_mlps_in_output_and_gradient(self, num_mlps, channels, relative_error):
        hidden = channels[1] if len(channels) > 2 else 0
        mlps = [MLP(channels[0], hidden, channels[-1], len(channels) - 1) for _ in range(num_mlps)]
        batched = BatchedMLP(num_mlps, channels)
        stack(batched, mlps)
        x = torch.randn(3, num_mlps, channels[0], requires_grad=True)
        out = batched(x)
        expected = torch.stack([mlp(x[:, index]) for index, mlp in enumerate(mlps)], dim=1)
        assert relative_error(out, expected) < 1e-5
        (gradient,) = torch.autograd.grad(out.square().sum(), x)
        (expected_gradient,) = torch.autograd.grad(expected.square().sum(), x)
        assert relative_error(gradient, expected_gradient) < 1e-5

    def test_copy_from_sets_every_mlp(self, relative_error):
        mlp = MLP(16, 8, 3, 2)
        batched = BatchedMLP(4, (16, 8, 3))
        batched.copy_from([layer.weight for layer in mlp.layers], [layer.bias for layer in mlp.layers])
        x = torch.randn(2, 4, 16)
        assert relative_error(batched(x), mlp(x)) < 1e-5

    def test_copy_from_other_shapes_changes_nothing(self):
        batched = BatchedMLP(2, (16, 8, 3))
        before = [parameter.clone() for parameter in batched.parameters()]
        weights, biases = [torch.ones(8, 16), torch.ones(4, 8)], [torch.ones(8), torch.ones(4)]
        with pytest.raises(ValueError, match=r"\(4, 8\).*expected.*\(3, 8\)"):
            batched.copy_from(weights, biases)
        assert all(torch.equal(new, old) for new, old in zip(batched.parameters(), before, strict=True))

    @pytest.mark.parametrize(("num_mlps", "channels"), [(0, (4, 4)), (2, (4,)), (2, ())], ids=str)
    def test_ill_arg(self, num_mlps, channels):
        with pytest.raises(ValueError, match=f"got num_mlps={num_mlps} and channels="):
            BatchedMLP(num_mlps, channels)
