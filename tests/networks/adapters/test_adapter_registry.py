# SPDX-License-Identifier: Apache-2.0
"""Registering adapter methods, of ours and of users."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from monai_sam2adapter.networks.adapters import (
    Adapter,
    AdapterConfig,
    HPAdapter,
    LWAdapter,
    MLPAdapter,
    adapter_names,
    get_adapter_class,
    inject_adapters,
    register_adapter,
    registry,
)
from monai_sam2adapter.networks.nets import PromptFreeSAM2, SAM2ImageEncoder


@pytest.fixture(autouse=True)
def _clean_registry(monkeypatch):
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(registry, "_ADAPTERS", dict(registry._ADAPTERS))


@dataclass(frozen=True)
class GainConfig(AdapterConfig):
    start: float = 0.0


class Gain(Adapter):
    """A user's method: one factor per channel, in front of the block."""

    slot = "block"
    config_class = GainConfig

    def __init__(self, channels: int, config: GainConfig) -> None:
        super().__init__(channels, config)
        self.gain = nn.Parameter(torch.full((channels,), config.start))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.config.scale * self.gain * x


def test_names_and_classes_of_this_package():
    assert {"adaptformer", "conv_lora", "hp", "lora", "lw", "sm_adaptformer"} <= set(adapter_names())
    assert adapter_names() == sorted(adapter_names())
    assert get_adapter_class("hp") is HPAdapter
    assert get_adapter_class("lw") is LWAdapter


def test_unknown_name_is_answered_with_a_suggestion():
    with pytest.raises(ValueError, match=r"did you mean 'hp'"):
        get_adapter_class("hpp")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hp", "the adapter name 'hp' is taken"),
        ("none", "the adapter name 'none' is taken"),
        ("full", r"the adapter name 'full' is taken; registered: \['adaptformer', .*reserved: \('none', 'full'\)"),
        ("Mine", "must be a lower-case identifier, got 'Mine'"),
        ("my.adapter", r"must be a lower-case identifier, got 'my\.adapter'"),
        ("", "must be a lower-case identifier, got ''"),
        ("1st", "must be a lower-case identifier, got '1st'"),
    ],
    ids=["duplicate", "none", "full", "upper case", "dot", "empty", "digit"],
)
def test_ill_name_registers_nothing(name, text):
    before = adapter_names()
    with pytest.raises(ValueError, match=text):
        register_adapter(name)(Gain)
    assert adapter_names() == before
    assert get_adapter_class("hp") is HPAdapter


@pytest.mark.parametrize("other", [nn.Linear, int], ids=["module", "no module"])
def test_what_is_no_adapter_is_refused(other):
    with pytest.raises(TypeError, match=f"{other.__name__} must subclass Adapter to be registered as 'mine'"):
        register_adapter("mine")(other)
    assert "mine" not in adapter_names()


class TestMethodOfAUser:
    @pytest.fixture(autouse=True)
    def _registered(self, _clean_registry):
        assert register_adapter("gain")(Gain) is Gain

    def test_net_takes_it_by_name_with_its_settings(self):
        net = PromptFreeSAM2("tiny", adapter="gain", adapter_config={"start": 0.25, "blocks": [0, -1], "scale": 1.0})
        adapters = [module for module in net.modules() if isinstance(module, Gain)]
        assert [adapter.channels for adapter in adapters] == [96, 768]
        assert all((adapter.gain == 0.25).all() for adapter in adapters)
        assert net.config["adapter_config"] == {
            "bottleneck_ratio": 0.25, "scale": 1.0, "blocks": [0, -1], "start": 0.25,
        }  # fmt: skip
        assert {"image_encoder.trunk.blocks.0.adapters.gain.gain"} <= net.added_state_names()
        assert all(adapter.gain.requires_grad for adapter in adapters)

    def test_scales_the_input_of_its_block(self, randomize, relative_error):
        net = randomize(PromptFreeSAM2("tiny", adapter="none")).eval().image_encoder
        x = torch.randn(1, 8, 8, 96)
        block = net.trunk.blocks[0]
        expected = block(1.5 * x)
        inject_adapters(net, "gain", GainConfig(scale=1.0, start=0.5, blocks=(0,)))
        assert relative_error(block(x), expected) < 1e-5

    def test_config_of_another_method_is_refused(self):
        with pytest.raises(ValueError, match="Gain takes a GainConfig, got a AdapterConfig"):
            PromptFreeSAM2("tiny", adapter="gain", adapter_config=AdapterConfig())

    def test_second_method_of_the_name_is_refused(self):
        with pytest.raises(ValueError, match=r"'gain' is taken; registered: \['adaptformer', .*'gain', 'hp'"):
            register_adapter("gain")

    def test_a_method_that_fails_on_one_block_leaves_none_adapted(self):
        @register_adapter("fussy")
        class Fussy(MLPAdapter):
            def _spatial_layer(self, width):
                if width > 30:
                    raise RuntimeError("too wide")
                return nn.Identity()

        encoder = SAM2ImageEncoder("tiny")
        with pytest.raises(RuntimeError, match="too wide"):
            inject_adapters(encoder, "fussy")
        assert not any(block.adapters for block in encoder.trunk.blocks)
