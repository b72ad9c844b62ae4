# SPDX-License-Identifier: Apache-2.0
"""The image encoder equals sam2's own."""

from __future__ import annotations

import pytest
import torch
from sam2.modeling.backbones.hieradet import Hiera
from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
from sam2.modeling.position_encoding import PositionEmbeddingSine

from monai_sam2adapter.networks.nets import SAM2_VARIANTS, HieraTrunk, SAM2ImageEncoder, sam2_encoder_config

SIZES = [(256, 256), (256, 224), (512, 384)]
CHANNELS = {
    "tiny": (96, 192, 384, 768),
    "small": (96, 192, 384, 768),
    "base_plus": (112, 224, 448, 896),
    "large": (144, 288, 576, 1152),
}  # read from sam2's YAML files: embed_dim, doubled at each stage


def make_sam2_encoder(variant):
    config = sam2_encoder_config(variant)
    neck = FpnNeck(position_encoding=PositionEmbeddingSine(256), **config["neck"])
    return ImageEncoder(Hiera(**config["trunk"]), neck, scalp=1)


@pytest.fixture(scope="module", params=SAM2_VARIANTS)
def encoders(request, randomize):
    """sam2's encoder and ours with the same random weights, in eval mode."""
    reference = randomize(make_sam2_encoder(request.param)).eval()
    encoder = SAM2ImageEncoder(request.param, positional_encoding="sam2").eval()
    encoder.load_state_dict(reference.state_dict())
    return reference, encoder


@pytest.fixture(scope="module")
def tiny_encoders(randomize):
    reference = randomize(make_sam2_encoder("tiny"))
    encoder = SAM2ImageEncoder("tiny", positional_encoding="sam2")
    encoder.load_state_dict(reference.state_dict())
    return reference, encoder


def gradients(net, function, x, upstream):
    """Gradients of the input and of all parameters for the given gradients of the outputs."""
    net.zero_grad()
    x = x.clone().requires_grad_()
    torch.autograd.backward(function(x), upstream)
    return {"input": x.grad, **{name: parameter.grad.clone() for name, parameter in net.named_parameters()}}


class TestEqualityWithSAM2:
    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_outputs(self, encoders, size, relative_error):
        reference, encoder = encoders
        x = torch.randn(1, 3, *size)
        with torch.no_grad():
            expected, features = reference(x)["backbone_fpn"], encoder(x)
        assert len(features) == len(expected) == 3
        assert max(relative_error(*pair) for pair in zip(features, expected, strict=True)) < 1e-5

    @pytest.mark.parametrize("size", [(32, 32), (64, 96), (224, 224), (256, 224), (30, 95)], ids=str)
    @pytest.mark.parametrize("pad_windows", [False, True], ids=["unpadded", "padded"])
    def test_tiny_at_other_sizes_with_a_batch(self, tiny_encoders, size, pad_windows, relative_error):
        reference, encoder = tiny_encoders
        for block in encoder.trunk.blocks:
            block.pad_windows = pad_windows
        x = torch.randn(2, 3, *size)
        with torch.no_grad():
            expected, features = reference(x)["backbone_fpn"], encoder(x)
        for block in encoder.trunk.blocks:
            block.pad_windows = False
        assert max(relative_error(*pair) for pair in zip(features, expected, strict=True)) < 1e-5

    def test_gradients_in_float32(self, tiny_encoders):
        reference, encoder = tiny_encoders
        x = torch.randn(2, 3, 256, 224)
        upstream = [torch.randn_like(feature) for feature in encoder(x)]
        got = gradients(encoder, encoder, x, upstream)
        expected = gradients(reference, lambda x: reference(x)["backbone_fpn"], x, upstream)
        assert got.keys() == expected.keys()
        # In the norm over all: rounding can turn the winner of a max-pooled query, which moves single entries.
        difference = sum((got[name] - expected[name]).double().square().sum() for name in got).sqrt()
        assert difference / sum(value.double().square().sum() for value in expected.values()).sqrt() < 1e-5

    def test_trunk_and_gradients_in_float64(self, randomize, relative_error):
        reference = randomize(Hiera(**sam2_encoder_config("tiny")["trunk"])).double()
        trunk = HieraTrunk("tiny", positional_encoding="sam2").double()
        trunk.load_state_dict(reference.state_dict())
        x = torch.randn(2, 3, 96, 64, dtype=torch.float64)
        outputs, expected_outputs = trunk(x), reference(x)
        assert max(relative_error(*pair) for pair in zip(outputs, expected_outputs, strict=True)) < 1e-12
        upstream = [torch.randn_like(output) for output in outputs]
        got, expected = gradients(trunk, trunk, x, upstream), gradients(reference, reference, x, upstream)
        errors = {name: relative_error(got[name], expected[name]) for name in expected}
        assert max(errors.values()) < 1e-10, errors


class TestSAM2ImageEncoder:
    @pytest.mark.parametrize("positional_encoding", ["peg", "sam2"])
    def test_gives_three_maps_from_shallow_to_deep(self, positional_encoding):
        encoder = SAM2ImageEncoder("tiny", positional_encoding)
        features = encoder(torch.rand(2, 3, 64, 96))
        assert encoder.strides == (4, 8, 16)
        assert encoder.channels == (256, 256, 256)
        assert [tuple(feature.shape) for feature in features] == [
            (2, channels, 64 // stride, 96 // stride)
            for channels, stride in zip(encoder.channels, encoder.strides, strict=True)
        ]

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
    def test_maps_have_the_dtype_of_the_network(self, dtype):
        encoder = SAM2ImageEncoder("tiny").to(dtype)
        assert {feature.dtype for feature in encoder(torch.rand(1, 3, 64, 64, dtype=dtype))} == {dtype}


class TestHieraTrunk:
    def test_gives_four_maps_from_shallow_to_deep(self, encoders):
        trunk = encoders[1].trunk
        with torch.no_grad():
            features = trunk(torch.rand(1, 3, 64, 96))
        assert trunk.channels == CHANNELS[trunk.variant]
        assert trunk.strides == (4, 8, 16, 32)
        assert [tuple(feature.shape) for feature in features] == [
            (1, channels, 64 // stride, 96 // stride)
            for channels, stride in zip(trunk.channels, trunk.strides, strict=True)
        ]

    @pytest.mark.parametrize(
        ("size", "fit"),
        [((100, 64), r"\(128, 64\)"), ((64, 65), r"\(64, 96\)"), ((0, 64), r"\(0, 64\)")],
        ids=["height", "width", "empty"],
    )
    def test_size_that_does_not_fit_is_answered_with_one_that_does(self, size, fit):
        text = rf"spatial size \({size[0]}, {size[1]}\) must be divisible by 32; pad to {fit}"
        with pytest.raises(ValueError, match=text):
            HieraTrunk("tiny")(torch.rand(1, 3, *size))

    def test_peg_replaces_the_fixed_positions(self, randomize):
        trunk = randomize(HieraTrunk("tiny", "peg")).eval()
        x = torch.rand(1, 3, 64, 64)
        before = trunk(x)
        with torch.no_grad():
            trunk.pos_embed.add_(1)
            trunk.pos_embed_window.add_(1)
            assert torch.equal(trunk(x)[3], before[3])
            trunk.positional_encoding.conv.bias.add_(1)
            assert not torch.allclose(trunk(x)[3], before[3])
        assert not trunk.pos_embed.requires_grad
        assert not trunk.pos_embed_window.requires_grad

    def test_peg_adds_its_code_after_the_first_block(self, randomize, relative_error):
        trunk = randomize(HieraTrunk("tiny", "peg")).eval()
        inputs, outputs = [], []
        trunk.blocks[0].register_forward_hook(lambda module, args, out: outputs.append(out))
        trunk.blocks[1].register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
        trunk(torch.rand(1, 3, 64, 64))
        code = trunk.positional_encoding(outputs[0].permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        assert relative_error(inputs[0], outputs[0] + code) < 1e-6

    def test_weights_start_as_hiera_draws_them(self):
        trunk = HieraTrunk("tiny")
        weight = trunk.blocks[5].mlp.layers[0].weight
        assert weight.std().item() == pytest.approx(0.02, rel=0.02)
        assert weight.abs().max() < 2
        assert not trunk.blocks[5].mlp.layers[0].bias.any()

    @pytest.mark.parametrize(
        ("kwargs", "text"),
        [
            ({"variant": "tinny"}, "did you mean 'tiny'"),
            ({"variant": "tiny", "positional_encoding": "pge"}, "did you mean 'peg'"),
        ],
        ids=["variant", "positional_encoding"],
    )
    def test_ill_arg(self, kwargs, text):
        with pytest.raises(ValueError, match=text):
            HieraTrunk(**kwargs)
