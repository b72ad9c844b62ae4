# SPDX-License-Identifier: Apache-2.0
"""The settings of an adapter in Python, in JSON and back; widths, counts and formulas of the methods."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
import torch.nn.functional as F

from monai_sam2adapter.networks.adapters import (
    AdapterConfig,
    AdaptFormer,
    BottleneckAdapter,
    BottleneckConfig,
    ConvLoRAAdapter,
    HPAdapter,
    LoRAAdapter,
    LWAdapter,
    SMAdaptFormer,
)


class TestAdapterConfig:
    @pytest.mark.parametrize(
        "config",
        [AdapterConfig(), AdapterConfig(bottleneck_ratio=1, scale=0.1, blocks=(0, -2)), AdapterConfig(blocks=())],
        ids=["default", "all set", "no block"],
    )
    def test_round_trip_through_json(self, config):
        assert AdapterConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config

    def test_what_is_left_out_keeps_its_default(self):
        assert AdapterConfig.from_dict({"scale": 1.0}) == AdapterConfig(scale=1.0)
        assert AdapterConfig.from_dict({}) == AdapterConfig(0.25, 0.5, None)

    def test_unknown_keys_are_all_named(self):
        settings = {"ratio": 0.5, "scale": 1.0, "block": [1]}
        text = r"unknown adapter setting block, ratio; the settings of this method are \['bottleneck_ratio', 'scale'"
        with pytest.raises(ValueError, match=text):
            AdapterConfig.from_dict(settings)
        assert settings == {"ratio": 0.5, "scale": 1.0, "block": [1]}

    @pytest.mark.parametrize("ratio", [0, -0.25, 1.01, float("nan")])
    def test_ill_bottleneck_ratio(self, ratio):
        with pytest.raises(ValueError, match=rf"bottleneck_ratio must be in \(0, 1\], got {ratio}"):
            AdapterConfig(bottleneck_ratio=ratio)

    def test_is_frozen_and_hashable(self):
        config = AdapterConfig(blocks=[1, 2])
        assert hash(config) == hash(AdapterConfig(blocks=(1, 2)))
        with pytest.raises(dataclasses.FrozenInstanceError):
            config.scale = 1.0


@pytest.mark.parametrize("adapter_class", [HPAdapter, LWAdapter])
@pytest.mark.parametrize(
    ("channels", "ratio", "width"), [(96, 0.25, 24), (96, 1, 96), (10, 0.25, 2), (2, 0.1, 1)], ids=str
)
def test_width_of_the_bottleneck(adapter_class, channels, ratio, width):
    adapter = adapter_class(channels, AdapterConfig(bottleneck_ratio=ratio))
    assert adapter.down.out_features == adapter.up.in_features == width
    assert adapter.up.out_features == channels


LINEAR = 96 * 24 + 24 + 24 * 96 + 96  # by hand, 96 channels, width 24: down and up with bias
LORA = (24 * 4 + 4 * 72) + (24 * 4 + 4 * 24)  # 24 channels, rank 4: down and up of qkv and proj


@pytest.mark.parametrize(
    ("adapter", "expected"),
    [
        # deformable 3x3, and its 27 offsets and masks
        (HPAdapter(channels=96), LINEAR + 24 * 24 * 9 + 24 + 27 * 24 * 9 + 27),
        # depthwise 3x3 and 1x1 and three BatchNorms of 2 * 24
        (LWAdapter(96), LINEAR + 24 * 9 + 24 + 3 * 2 * 24),
        (AdaptFormer(96), LINEAR),
        # four dense 3x3 and one 1x1 without bias
        (SMAdaptFormer(96), LINEAR + 4 * 24 * 24 * 9 + 24 * 24),
        (BottleneckAdapter(96), 96 * 32 + 32 + 32 * 96 + 96),
        (LoRAAdapter(24), LORA),
        # for each of the two layers 4 experts (3x3 with bias) and a gate
        (ConvLoRAAdapter(24), LORA + 2 * (4 * (4 * 4 * 9 + 4) + 4 * 4)),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, int) else "",
)
def test_counts_of_parameters_and_default_settings(adapter, expected):
    assert sum(parameter.numel() for parameter in adapter.parameters()) == expected
    assert adapter.config == adapter.config_class()


class TestBottleneck:
    def test_width_and_formula(self):
        adapter = BottleneckAdapter(96)
        x = torch.randn(2, 3, 5, 96)
        hidden = F.gelu(x @ adapter.down.weight.T + adapter.down.bias)
        assert hidden.shape[-1] == 32
        assert torch.allclose(adapter(x), F.gelu(hidden @ adapter.up.weight.T + adapter.up.bias), atol=1e-6)

    def test_start(self):
        adapter = BottleneckAdapter(576)
        assert adapter.up.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert not adapter.up.bias.any()
        assert not adapter.down.bias.any()

    def test_width_none_takes_the_ratio(self):
        adapter = BottleneckAdapter(96, BottleneckConfig(bottleneck_ratio=0.5, width=None))
        assert adapter.down.out_features == 48

    @pytest.mark.parametrize("width", [0, -1, 1.5, True])
    def test_ill_width(self, width):
        with pytest.raises(ValueError, match=f"width must be a whole number from 1, or None, got {width}"):
            BottleneckConfig(width=width)


def test_adaptformer_by_its_formula(randomize, relative_error):
    adapter = randomize(AdaptFormer(24))
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
    adapter = randomize(SMAdaptFormer(24))
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
