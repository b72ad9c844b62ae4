# SPDX-License-Identifier: Apache-2.0
"""Frozen weights held in bfloat16: outputs, gradients, memory, training, and files as without it."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from monai_sam2adapter.networks.adapters import adapter_names, merge_adapters, remove_adapters, unmerge_adapters
from monai_sam2adapter.networks.nets import PromptFreeSAM2, SAM2UNet, SAM2UNeXT
from monai_sam2adapter.networks.utils import cast_frozen_weights, reparameterize_model
from monai_sam2adapter.networks.weights import load_adapter, save_adapter
from monai_sam2adapter.networks.weights.adapters import base_checksum


def unext(variant, adapter, **kwargs):
    pytest.importorskip("timm", reason="timm is missing; install the extra 'unext'")
    return SAM2UNeXT(variant, adapter, dino_variant="small", dino_size=28, **kwargs)


NETWORKS = {"PromptFreeSAM2": PromptFreeSAM2, "SAM2UNet": SAM2UNet, "SAM2UNeXT": unext}
CASES = [("PromptFreeSAM2", adapter) for adapter in (*adapter_names(), "none")]
CASES += [("SAM2UNet", "bottleneck"), ("SAM2UNeXT", "bottleneck")]


def two_of(network, adapter, **kwargs):
    """The same network twice, the second with its frozen weights cast."""
    plain = NETWORKS[network]("tiny", adapter, out_channels=3, **kwargs)
    cast = copy.deepcopy(plain)
    cast_frozen_weights(cast, "bfloat16")
    return plain, cast


def frozen_bytes(net):
    return sum(parameter.nbytes for parameter in net.parameters() if not parameter.requires_grad)


@pytest.mark.parametrize(("network", "adapter"), CASES)
class TestPasses:
    def test_only_frozen_weights_are_cast(self, network, adapter):
        plain, cast = two_of(network, adapter)
        trained = {name for name, parameter in cast.named_parameters() if parameter.requires_grad}
        assert {cast.get_parameter(name).dtype for name in trained} == {torch.float32}
        assert 0.5 < frozen_bytes(cast) / frozen_bytes(plain) < 0.51
        assert set(plain.state_dict()) == set(cast.state_dict())

    def test_outputs_are_near_those_in_float32_and_of_the_inputs_dtype(self, network, adapter, relative_error):
        plain, cast = (net.eval() for net in two_of(network, adapter))
        x = torch.rand(2, 3, 64, 80)
        with torch.no_grad():
            out = cast(x)
            assert out.dtype == torch.float32
            assert 0 < relative_error(out, plain(x)) < 0.05
            with torch.autocast("cpu", torch.bfloat16):  # in which it is the network as it is under autocast
                assert torch.equal(cast(x), plain(x))

    def test_gradients_reach_all_that_is_trained(self, network, adapter, randomize):
        _, cast = two_of(network, adapter)
        randomize(nn.ModuleList(module for _, module, _ in cast._added_modules()))  # adapters start at zero
        outputs = cast.train()(torch.rand(2, 3, 64, 64))
        sum(out.square().mean() for out in (outputs if isinstance(outputs, list) else [outputs])).backward()
        for name, parameter in cast.named_parameters():
            if parameter.requires_grad and not name.endswith("k_proj.bias"):
                assert parameter.grad.dtype == torch.float32
                assert parameter.grad.isfinite().all()
                assert parameter.grad.any(), name
            else:
                assert parameter.grad is None or parameter.requires_grad


class TestState:
    def test_files_and_checksums_are_those_of_full_precision(self, tmp_path):
        plain, cast = two_of("PromptFreeSAM2", "lw")
        torch.testing.assert_close(cast.state_dict(), plain.state_dict(), rtol=0, atol=0)
        assert base_checksum(cast) == base_checksum(plain)
        with torch.no_grad():
            cast.image_encoder.trunk.blocks[0].adapters["lw"].up.weight.fill_(0.5)
        save_adapter(cast, tmp_path / "a.safetensors")
        load_adapter(plain, tmp_path / "a.safetensors")
        torch.testing.assert_close(cast.state_dict(), plain.state_dict(), rtol=0, atol=0)
        load_adapter(cast, tmp_path / "a.safetensors")

    def test_loading_takes_the_place_of_what_was_cast(self):
        plain, cast = two_of("PromptFreeSAM2", "hp")
        other = PromptFreeSAM2("tiny", "hp", out_channels=3)
        cast.load_state_dict(other.state_dict())
        torch.testing.assert_close(cast.state_dict(), other.state_dict(), rtol=0, atol=0)
        weight = cast.image_encoder.trunk.blocks[0].attn.qkv.weight
        assert torch.equal(weight, other.image_encoder.trunk.blocks[0].attn.qkv.weight.bfloat16())
        assert not torch.equal(plain.state_dict()["no_mem_embed"], other.state_dict()["no_mem_embed"])

    def test_a_wrapper_changes_nothing(self):
        plain, cast = two_of("PromptFreeSAM2", "hp")
        state = torch.compile(cast).state_dict()
        expected = {f"_orig_mod.{name}": value for name, value in plain.state_dict().items()}
        torch.testing.assert_close(dict(state), expected, rtol=0, atol=0)

    def test_float32_gives_the_network_back(self):
        plain, cast = two_of("PromptFreeSAM2", "hp")
        cast_frozen_weights(cast, "float32")
        x = torch.rand(1, 3, 64, 64)
        assert torch.equal(cast.eval()(x), plain.eval()(x))
        assert {parameter.dtype for parameter in cast.parameters()} == {torch.float32}

    def test_copies_and_further_casts(self):
        plain, cast = two_of("PromptFreeSAM2", "hp")
        cast = copy.deepcopy(cast)
        cast_frozen_weights(cast, "bfloat16")
        torch.testing.assert_close(cast.state_dict(), plain.state_dict(), rtol=0, atol=0)

    def test_merging_comes_first(self):
        plain, cast = two_of("PromptFreeSAM2", "lora")
        for merge in (merge_adapters, lambda net: reparameterize_model(net.eval(), inplace=True)):
            with pytest.raises(ValueError, match=r"weights are in torch.bfloat16, .* merge before cast_frozen"):
                merge(cast)
        merged = reparameterize_model(plain.eval())
        cast_frozen_weights(merged, "bfloat16")
        assert merged(torch.rand(1, 3, 64, 64)).isfinite().all()

    @pytest.mark.parametrize("undo", [unmerge_adapters, remove_adapters])
    def test_a_merge_is_undone_in_full_precision_only(self, undo):
        """The originals of the cast weights are those with the adapters in them."""
        net = PromptFreeSAM2("tiny", "lora", out_channels=3)
        other = copy.deepcopy(net)
        merge_adapters(net)
        net.cast_frozen(torch.bfloat16)
        before = {name: value.clone() for name, value in net.state_dict().items()}
        with pytest.raises(ValueError, match=r"held in torch.bfloat16.*cast_frozen\(torch.float32\) first"):
            undo(net)
        torch.testing.assert_close(dict(net.state_dict()), before, rtol=0, atol=0)
        net.cast_frozen(torch.float32)
        undo(other)  # without anything merged
        assert undo(net) > 0
        torch.testing.assert_close(dict(net.state_dict()), dict(other.state_dict()), rtol=0, atol=0)

    def test_ill_arg(self):
        with pytest.raises(ValueError, match="float16"):
            cast_frozen_weights(PromptFreeSAM2("tiny"), "float16")
        with pytest.raises(ValueError, match=r"torch.bfloat16 or torch.float32, got torch.float16"):
            PromptFreeSAM2("tiny").cast_frozen(torch.float16)
        with pytest.raises(ValueError, match="Linear has no frozen weights of SAM 2 to cast"):
            cast_frozen_weights(nn.Linear(1, 1), "bfloat16")
        cast_frozen_weights(nn.Linear(1, 1), "float32")


def test_a_short_training_comes_to_the_same():
    x = torch.rand(4, 3, 64, 64)
    label = (F.avg_pool2d(x, 9, 1, 4)[:, 0] > 0.5).long()
    losses = []
    for net in two_of("PromptFreeSAM2", "hp"):
        optimizer = torch.optim.Adam([p for p in net.train().parameters() if p.requires_grad], lr=1e-3)
        history = []
        for _ in range(12):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), label)
            loss.backward()
            optimizer.step()
            history.append(loss.item())
        losses.append(history)
    assert losses[0][-1] < 0.8 * losses[0][0]
    torch.testing.assert_close(losses[1], losses[0], rtol=0.05, atol=0)
