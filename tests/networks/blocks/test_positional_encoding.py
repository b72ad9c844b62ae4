# SPDX-License-Identifier: Apache-2.0
"""PEG computes a position code of each channel for any size."""

from __future__ import annotations

import pytest
import torch

from monai_sam2adapter.networks.blocks import PositionalEncodingGenerator


class TestPositionalEncodingGenerator:
    def test_starts_at_zero_and_can_leave_it(self):
        peg = PositionalEncodingGenerator(5)
        out = peg(torch.randn(2, 5, 7, 3))
        assert torch.equal(out, torch.zeros(2, 5, 7, 3))
        out.sum().backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in peg.parameters())

    @pytest.mark.parametrize("size", [(1, 1), (7, 3), (64, 48)], ids=str)
    @pytest.mark.parametrize("kernel_size", [1, 3, 7])
    def test_shape(self, size, kernel_size):
        assert PositionalEncodingGenerator(5, kernel_size)(torch.randn(2, 5, *size)).shape == (2, 5, *size)

    def test_border_tells_positions_apart(self, randomize):
        code = randomize(PositionalEncodingGenerator(1))(torch.ones(1, 1, 9, 9))[0, 0]
        assert code[4, 4] == code[3, 5]
        assert len({code[0, 0].item(), code[0, 4].item(), code[4, 0].item(), code[4, 4].item()}) == 4

    def test_channels_do_not_mix(self, randomize):
        peg = randomize(PositionalEncodingGenerator(4))
        x = torch.randn(1, 4, 6, 6)
        changed = x.clone()
        changed[:, 2] += 1
        differs = (peg(x) != peg(changed)).flatten(2).any(dim=2)
        assert differs.tolist() == [[False, False, True, False]]

    @pytest.mark.parametrize("kernel_size", [0, 2, -1])
    def test_ill_arg(self, kernel_size):
        with pytest.raises(ValueError, match=f"kernel_size must be odd and positive, got {kernel_size}"):
            PositionalEncodingGenerator(4, kernel_size)
