# SPDX-License-Identifier: Apache-2.0
"""The settings of an adapter in Python, in JSON and back."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
import torch.nn.functional as F

from monai_sam2adapter.networks.adapters import (
    AdapterConfig,
    BottleneckAdapter,
    BottleneckConfig,
    HPAdapter,
    LWAdapter,
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


def test_counts_of_parameters():
    # By hand, 96 channels, width 24: down 96 * 24 + 24, up 24 * 96 + 96.
    linear = 96 * 24 + 24 + 24 * 96 + 96
    # Deformable 3x3 (24 * 24 * 9 + 24) and its 27 offsets and masks (27 * 24 * 9 + 27).
    hp = linear + 24 * 24 * 9 + 24 + 27 * 24 * 9 + 27
    # Depthwise 3x3 and 1x1 and three BatchNorms of 2 * 24.
    lw = linear + 24 * 9 + 24 + 3 * 2 * 24
    for adapter_class, expected in ((HPAdapter, hp), (LWAdapter, lw)):
        adapter = adapter_class(96, AdapterConfig())
        assert sum(parameter.numel() for parameter in adapter.parameters()) == expected


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
