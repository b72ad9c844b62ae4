# SPDX-License-Identifier: Apache-2.0
"""LoRA and Conv-LoRA: their settings and what they compute."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F

from monai_sam2adapter.networks.adapters import ConvLoRAAdapter, ConvLoRAConfig, LoRAAdapter, LoRAConfig
from monai_sam2adapter.networks.nets import PromptFreeSAM2

METHODS = pytest.mark.parametrize(
    ("adapter_class", "config_class"), [(LoRAAdapter, LoRAConfig), (ConvLoRAAdapter, ConvLoRAConfig)]
)


class TestConfig:
    @METHODS
    def test_the_rank_stands_in_for_the_ratio(self, adapter_class, config_class):
        config = config_class(rank=2, blocks=[0, -1])
        settings = json.loads(json.dumps(config.to_dict()))
        assert {"scale": 1.0, "blocks": [0, -1], "rank": 2}.items() <= settings.items()
        assert "bottleneck_ratio" not in settings
        assert config_class.from_dict(settings) == config
        with pytest.raises(
            ValueError, match="unknown adapter setting bottleneck_ratio; the settings of this method are"
        ):
            config_class.from_dict({"bottleneck_ratio": 0.5})

    @pytest.mark.parametrize("value", [0, -1, 2.0, "4", True])
    @pytest.mark.parametrize("name", ["rank", "num_experts"])
    def test_ill_value(self, name, value):
        with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1, got {value!r}"):
            ConvLoRAConfig(**{name: value})

    def test_net_takes_the_settings_by_name(self):
        net = PromptFreeSAM2("tiny", "conv_lora", adapter_config={"rank": 2, "num_experts": 3})
        expected = {"scale": 1.0, "blocks": None, "rank": 2, "num_experts": 3}
        assert net.config["adapter_config"] == expected
        assert PromptFreeSAM2(**net.config).config == net.config


def test_branches_have_the_sizes_of_the_layers():
    # Where the trunk halves the map and doubles the channels, qkv maps 96 to 3 * 192 and proj 192 to 192.
    net = PromptFreeSAM2("tiny", "lora")
    adapter = net.image_encoder.trunk.blocks[1].adapters["lora"]
    shapes = {name: tuple(tensor.shape) for name, tensor in adapter.state_dict().items()}
    assert shapes == {
        "qkv.0.weight": (4, 96),
        "qkv.1.weight": (3 * 192, 4),
        "proj.0.weight": (4, 192),
        "proj.1.weight": (192, 4),
    }


@METHODS
def test_starts_at_zero_with_a_gradient(adapter_class, config_class):
    adapter = adapter_class(24, config_class())
    for layer in ("qkv", "proj"):
        out = adapter(torch.randn(2, 5, 7, 24), layer)
        assert not out.any()
        out.sum().backward()
    starts = [parameter for name, parameter in adapter.named_parameters() if name.endswith(("1.weight", "up.weight"))]
    assert [bool(parameter.grad.any()) for parameter in starts if not parameter.any()] == [True, True]


@pytest.mark.parametrize(("layer", "out_channels"), [("qkv", 96), ("proj", 32)])
def test_lora_is_a_change_of_the_weight(layer, out_channels, randomize, relative_error):
    adapter = randomize(LoRAAdapter(24, LoRAConfig(scale=0.3, rank=3), 32))
    x = torch.randn(2, 5, 7, 24 if layer == "qkv" else 32)
    update = adapter.weight_update(layer)
    assert update.dtype == torch.float64
    assert torch.linalg.matrix_rank(update) == 3
    assert adapter(x, layer).shape == (2, 5, 7, out_channels)
    assert relative_error(adapter(x, layer), F.linear(x, update.float())) < 1e-5


class TestConvLoRA:
    def branch(self, randomize, **settings):
        return randomize(ConvLoRAAdapter(24, ConvLoRAConfig(rank=3, **settings))).proj

    def test_without_experts_it_is_lora(self, randomize, relative_error):
        branch = self.branch(randomize)
        with torch.no_grad():
            for parameter in branch.experts.parameters():
                parameter.zero_()
        x = torch.randn(2, 5, 7, 24)
        assert relative_error(branch(x), x @ branch.down.weight.T @ branch.up.weight.T) < 1e-5

    def test_expert_sees_the_map_enlarged(self, randomize):
        branch = self.branch(randomize, num_experts=3)
        seen = []
        for expert in branch.experts:
            expert.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
        branch(torch.randn(2, 5, 7, 24))
        assert seen == [(2, 3, 5, 7), (2, 3, 10, 14), (2, 3, 15, 21)]

    def test_by_its_formula(self, randomize, relative_error):
        branch = self.branch(randomize, num_experts=2)
        x = torch.randn(2, 5, 7, 24)
        hidden = (x @ branch.down.weight.T).permute(0, 3, 1, 2)
        first, second = (
            F.gelu(expert(part)) for expert, part in zip(branch.experts, (hidden, enlarged(hidden)), strict=True)
        )
        second = F.avg_pool2d(second, 2)  # what bilinear resizing to half the size is
        gates = (hidden.flatten(2).mean(-1) @ branch.gate.weight.T).exp()
        gates = gates / gates.sum(1, keepdim=True)
        mixed = hidden + gates[:, 0].view(2, 1, 1, 1) * first + gates[:, 1].view(2, 1, 1, 1) * second
        expected = mixed.permute(0, 2, 3, 1) @ branch.up.weight.T
        assert relative_error(branch(x), expected) < 1e-5

    def test_each_image_has_its_own_gate(self, randomize, relative_error):
        branch = self.branch(randomize)
        with torch.no_grad():
            branch.gate.weight.mul_(10)
        x = torch.randn(3, 6, 5, 24) + torch.randn(3, 1, 1, 24)
        assert relative_error(branch(x), torch.cat([branch(image[None]) for image in x])) < 1e-5
        assert relative_error(branch(x), branch(x - x.mean(dim=(1, 2), keepdim=True))) > 0.01


def enlarged(x):
    """Twice as large by linear interpolation, written out: 3/4 of the nearer and 1/4 of the farther neighbor."""
    for dim in (2, 3):
        last = x.shape[dim] - 1
        before = torch.cat([x.narrow(dim, 0, 1), x.narrow(dim, 0, last)], dim)
        after = torch.cat([x.narrow(dim, 1, last), x.narrow(dim, last, 1)], dim)
        x = torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], dim + 1).flatten(dim, dim + 1)
    return x
