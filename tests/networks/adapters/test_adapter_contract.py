# SPDX-License-Identifier: Apache-2.0
"""What every registered adapter method must do, on the tiny trunk."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from monai_sam2adapter.networks.adapters import (
    Adapter,
    NoMatchingModuleError,
    adapter_names,
    get_adapter_class,
    inject_adapters,
    remove_adapters,
)
from monai_sam2adapter.networks.blocks import HieraBlock
from monai_sam2adapter.networks.nets import PromptFreeSAM2

SIZE = (64, 96)
NO_IDENTITY = ("bottleneck",)  # methods whose authors draw all their weights

pytestmark = pytest.mark.parametrize("method", adapter_names())


@pytest.fixture(scope="module", params=["peg", "sam2"])
def base(request, randomize):
    """A net without adapter, all weights random, in eval mode; tests must not change it."""
    return randomize(PromptFreeSAM2("tiny", adapter="none", positional_encoding=request.param, out_channels=3)).eval()


@pytest.fixture
def adapted(base, method):
    """The same net with adapters at their initialization, and SAM 2's weights frozen."""
    net = PromptFreeSAM2("tiny", adapter=method, positional_encoding=base.config["positional_encoding"], out_channels=3)
    missing, unexpected = net.load_state_dict(base.state_dict(), strict=False)
    assert not unexpected
    assert all(".adapters." in name for name in missing)
    return net.eval()


def build(method, **settings):
    """One adapter for 24 channels."""
    adapter_class = get_adapter_class(method)
    return adapter_class(24, adapter_class.config_class(**settings))


def adapters_of(net):
    return [module for module in net.modules() if isinstance(module, Adapter)]


@torch.no_grad()
def randomize_adapters(net, randomize):
    for adapter in adapters_of(net):
        randomize(adapter)
    return net


def test_starts_as_the_identity(base, adapted, method):
    if method in NO_IDENTITY:
        pytest.skip(f"{method} does not start as the identity")
    x = torch.rand(2, 3, *SIZE)
    for training in (False, True):
        assert torch.equal(adapted.train(training)(x), base.train(training)(x))
    base.eval()


def test_random_adapter_changes_the_output_and_removal_gives_the_base_back(base, adapted, randomize):
    x = torch.rand(2, 3, *SIZE)
    expected = base(x)
    randomize_adapters(adapted, randomize)
    assert (adapted(x) - expected).abs().max() > 0.01 * expected.abs().max()
    assert remove_adapters(adapted) == 12
    assert torch.equal(adapted(x), expected)
    assert list(adapted.state_dict()) == list(base.state_dict())
    assert remove_adapters(adapted) == 0


def test_base_keys_are_unchanged(base, adapted, method):
    added = [name for name in adapted.state_dict() if name not in base.state_dict()]
    assert added
    assert all(f".adapters.{method}." in name for name in added)
    assert [name for name in adapted.state_dict() if name not in added] == list(base.state_dict())


def test_only_added_parts_get_a_gradient_and_every_one_does(adapted, randomize):
    randomize_adapters(adapted, randomize).train()
    adapted(torch.rand(2, 3, *SIZE)).square().sum().backward()
    added = adapted.added_state_names()
    for name, parameter in adapted.named_parameters():
        if name in added:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
        else:
            assert not parameter.requires_grad, name
            assert parameter.grad is None, name


def test_state_dict_round_trip_gives_equal_outputs(adapted, method, randomize):
    x = torch.rand(2, 3, *SIZE)
    randomize_adapters(adapted, randomize).train()(x)  # a training step moves BatchNorm's buffers
    expected = adapted.eval()(x)
    other = PromptFreeSAM2(**adapted.config)
    other.load_state_dict(adapted.state_dict())
    assert torch.equal(other.eval()(x), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_module_of_a_dtype_is_finite(adapted, dtype, randomize):
    randomize_adapters(adapted, randomize).to(dtype).train()
    out = adapted(torch.rand(2, 3, *SIZE, dtype=dtype))
    assert out.dtype == dtype
    assert out.isfinite().all()
    out.float().square().mean().backward()
    gradients = [parameter.grad for parameter in adapted.parameters() if parameter.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (7, 16)], ids=str)
def test_tokens_of_any_size(method, size, randomize):
    adapter = randomize(build(method)).eval()
    out = adapter(torch.randn(2, *size, 24))
    assert out.shape == (2, *size, 3 * 24 if adapter.slot == "attention" else 24)
    assert out.isfinite().all()


def test_output_scales(method, randomize):
    x = torch.randn(2, 5, 7, 24)
    half, whole = (randomize(build(method, scale=scale)).eval()(x) for scale in (0.5, 1.0))
    assert half.abs().max() > 0
    assert torch.allclose(2 * half, whole)


def test_deepcopy_is_independent(adapted, randomize):
    x = torch.rand(1, 3, *SIZE)
    expected = adapted(x)
    randomize_adapters(copy.deepcopy(adapted), randomize)
    assert torch.equal(adapted(x), expected)


class TestInjection:
    @pytest.fixture
    def trunk(self, base):
        return copy.deepcopy(base.image_encoder)

    def test_report_names_what_was_adapted(self, trunk, method, caplog):
        with caplog.at_level("INFO", logger="monai_sam2adapter"):
            report = inject_adapters(trunk, method)
        adapters = adapters_of(trunk)
        assert (report.adapter, report.slot) == (method, get_adapter_class(method).slot)
        assert report.modules == tuple(f"trunk.blocks.{index}" for index in range(12))
        assert report.num_parameters == sum(p.numel() for adapter in adapters for p in adapter.parameters())
        text = f"adapter {method!r} in slot {report.slot!r} of 12 blocks, {report.num_parameters:,} parameters: "
        assert str(report) == text + ", ".join(report.modules)
        assert str(report) in caplog.messages

    def test_adapters_follow_their_block(self, trunk, method):
        inject_adapters(trunk.double().train(), method)
        assert all(p.dtype == torch.float64 and p.requires_grad for a in adapters_of(trunk) for p in a.parameters())
        assert all(adapter.training for adapter in adapters_of(trunk))

    def test_blocks_may_be_named_from_both_ends(self, trunk, method):
        report = inject_adapters(trunk, method, {"blocks": [-1, 3, 0, 11]})
        assert report.modules == ("trunk.blocks.0", "trunk.blocks.3", "trunk.blocks.11")
        adapted = [name for name, module in trunk.named_modules() if isinstance(module, HieraBlock) and module.adapters]
        assert tuple(adapted) == report.modules

    @pytest.mark.parametrize(
        ("config", "error", "text"),
        [
            ({"blocks": [0, 12]}, ValueError, r"blocks \[12\] do not exist: the trunk has 12 blocks"),
            ({"blocks": [-13]}, ValueError, r"blocks \[-13\] do not exist"),
            ({"blocks": []}, NoMatchingModuleError, "'blocks' is empty; name at least one block"),
            ({"breadth": 8}, ValueError, "unknown adapter setting breadth; the settings of this method are"),
            ({"scale": "much"}, ValueError, "scale must be a number, got 'much'"),
        ],
        ids=["outside", "outside negative", "empty", "unknown setting", "ill value"],
    )
    def test_ill_config_changes_nothing(self, trunk, method, config, error, text):
        names = list(trunk.state_dict())
        with pytest.raises(error, match=text):
            inject_adapters(trunk, method, config)
        assert list(trunk.state_dict()) == names

    def test_zero_matches_is_an_error(self, method):
        with pytest.raises(NoMatchingModuleError, match="Sequential has no block to adapt; inject into a network"):
            inject_adapters(nn.Sequential(nn.Linear(3, 3)), method)

    def test_twice_is_refused_and_changes_nothing(self, trunk, method):
        inject_adapters(trunk, method, {"blocks": [3]})
        before, names = adapters_of(trunk), list(trunk.state_dict())
        with pytest.raises(ValueError, match=rf"trunk\.blocks\.3 have an adapter {method!r} already"):
            inject_adapters(trunk, method)
        assert adapters_of(trunk) == before
        assert list(trunk.state_dict()) == names

    def test_config_object_equals_its_dictionary(self, trunk, method):
        config = get_adapter_class(method).config_class(scale=0.7, blocks=(1, 2))
        other = copy.deepcopy(trunk)
        assert inject_adapters(trunk, method, config) == inject_adapters(other, method, config.to_dict())
        assert [a.config for a in adapters_of(trunk)] == [a.config for a in adapters_of(other)] == [config, config]
