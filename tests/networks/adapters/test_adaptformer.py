# SPDX-License-Identifier: Apache-2.0
"""AdaptFormer and SM-AdaptFormer compute what G-SAM compares with."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from monai_sam2adapter.networks.adapters import AdapterConfig, AdaptFormer, SMAdaptFormer


def test_adaptformer_by_its_formula(randomize, relative_error):
    adapter = randomize(AdaptFormer(24, AdapterConfig()))
    state = adapter.state_dict()
    assert list(state) == ["down.weight", "down.bias", "up.weight", "up.bias"]
    x = torch.randn(2, 5, 7, 24)
    hidden = F.gelu(x @ state["down.weight"].T + state["down.bias"])
    assert hidden.shape[-1] == 6
    expected = 0.5 * (hidden @ state["up.weight"].T + state["up.bias"])
    assert relative_error(adapter(x), expected) < 1e-5


def shifted(x, rows, columns):
    """The map moved by whole pixels, zeros from outside."""
    out = torch.zeros_like(x)
    height, width = x.shape[-2:]
    if abs(rows) < height and abs(columns) < width:
        to_rows, to_columns = (
            slice(max(0, rows), height + min(0, rows)),
            slice(max(0, columns), width + min(0, columns)),
        )
        of_rows, of_columns = (
            slice(max(0, -rows), height - max(0, rows)),
            slice(max(0, -columns), width - max(0, columns)),
        )
        out[..., to_rows, to_columns] = x[..., of_rows, of_columns]
    return out


def test_sm_adaptformer_by_its_formula(randomize, relative_error):
    adapter = randomize(SMAdaptFormer(24, AdapterConfig()))
    state = adapter.state_dict()
    x = torch.randn(2, 30, 27, 24)
    hidden = F.gelu(x @ state["down.weight"].T + state["down.bias"]).permute(0, 3, 1, 2)
    pooled = torch.einsum("oi,bi->bo", state["spatial.pooled.weight"][..., 0, 0], hidden.mean(dim=(2, 3)))
    mixed = hidden + pooled.relu()[..., None, None]
    for index, dilation in enumerate((1, 12, 24, 36)):
        kernel = state[f"spatial.convs.{index}.weight"]
        taps = [(i, j) for i in range(3) for j in range(3)]
        mixed = (
            mixed
            + sum(
                torch.einsum(
                    "oi,bihw->bohw", kernel[..., i, j], shifted(hidden, dilation * (1 - i), dilation * (1 - j))
                )
                for i, j in taps
            ).relu()
        )
    expected = 0.5 * (mixed.permute(0, 2, 3, 1) @ state["up.weight"].T + state["up.bias"])
    assert relative_error(adapter(x), expected) < 1e-5


def test_counts_of_parameters():
    # By hand, 96 channels, width 24: two projections with bias; four dense 3x3 and one 1x1 without.
    linear = 96 * 24 + 24 + 24 * 96 + 96
    for adapter_class, expected in ((AdaptFormer, linear), (SMAdaptFormer, linear + 4 * 24 * 24 * 9 + 24 * 24)):
        adapter = adapter_class(96, AdapterConfig())
        assert sum(parameter.numel() for parameter in adapter.parameters()) == expected
