# SPDX-License-Identifier: Apache-2.0
"""The parts that are read from sam2 or stand in for its own: configuration, prompt encoder, mask decoder."""

from __future__ import annotations

import pytest
import torch
from sam2.modeling.sam.mask_decoder import MaskDecoder
from sam2.modeling.sam.prompt_encoder import PromptEncoder
from sam2.modeling.sam.transformer import TwoWayTransformer

from monai_sam2adapter.networks.nets import (
    SAM2_VARIANTS,
    EmptyPromptEncoder,
    PromptFreeMaskDecoder,
    sam2_encoder_config,
)


class TestSAM2EncoderConfig:
    def test_variants(self):
        assert SAM2_VARIANTS == ("tiny", "small", "base_plus", "large")
        # sam2's YAML files.
        trunks = [sam2_encoder_config(variant)["trunk"] for variant in SAM2_VARIANTS]
        assert [(trunk["embed_dim"], trunk["num_heads"]) for trunk in trunks] == [(96, 1), (96, 1), (112, 2), (144, 2)]

    def test_unknown_variant_is_answered_with_a_suggestion(self):
        with pytest.raises(ValueError, match="did you mean 'large'"):
            sam2_encoder_config("lagre")

    def test_caller_may_change_the_result(self):
        config = sam2_encoder_config("large")
        config["trunk"]["stages"].append(7)
        config["neck"]["backbone_channel_list"].clear()
        config["trunk"]["embed_dim"] = 1
        again = sam2_encoder_config("large")
        assert again["trunk"]["stages"] == [2, 6, 36, 4]
        assert again["neck"]["backbone_channel_list"] == [1152, 576, 288, 144]
        assert again["trunk"]["embed_dim"] == 144


class TestEmptyPromptEncoder:
    @pytest.fixture
    def encoders(self):
        reference = PromptEncoder(256, (6, 9), (96, 144), mask_in_chans=16)
        encoder = EmptyPromptEncoder(256)
        state = reference.state_dict()
        encoder.load_state_dict({name: state[name] for name in encoder.state_dict()})
        return reference, encoder

    def test_equals_sam2_without_a_prompt(self, encoders, relative_error):
        reference, encoder = encoders
        features = torch.rand(2, 256, 6, 9)
        sparse, dense = reference(points=None, boxes=None, masks=None)
        assert sparse.shape[1] == 0
        assert torch.equal(encoder.dense_embedding().expand_as(dense), dense)
        assert relative_error(encoder.dense_positions(features), reference.get_dense_pe()) < 1e-5

    def test_positions_are_computed_in_float32(self, encoders, relative_error):
        _, encoder = encoders
        expected = encoder.dense_positions(torch.rand(2, 256, 6, 9))
        for dtype in (torch.bfloat16, torch.float64):
            positions = encoder.dense_positions(torch.rand(2, 256, 6, 9, dtype=dtype))
            assert positions.dtype == dtype
            assert relative_error(positions.float(), expected) < 0.01
        half = encoder.to(torch.bfloat16).dense_positions(torch.rand(2, 256, 6, 9, dtype=torch.bfloat16))
        assert half.dtype == torch.bfloat16


class TestPromptFreeMaskDecoder:
    def test_equals_sam2_where_both_have_the_same_tokens(self, randomize, relative_error):
        """sam2's decoder without IoU and object tokens: its mask tokens and hyper-networks become those of classes."""
        reference = MaskDecoder(
            transformer_dim=256, transformer=TwoWayTransformer(2, 256, 8, 2048), use_high_res_features=True
        )
        randomize(reference)
        decoder = PromptFreeMaskDecoder(4)
        decoder.load_state_dict(reference.state_dict(), strict=False)
        mlps = reference.output_hypernetworks_mlps
        with torch.no_grad():
            decoder.class_tokens.weight.copy_(reference.mask_tokens.weight)
            for index, mlp in enumerate(mlps):
                for layer, weight, bias in zip(
                    mlp.layers,
                    decoder.class_hypernetworks.weights,
                    decoder.class_hypernetworks.biases,
                    strict=True,
                ):
                    weight[index].copy_(layer.weight)
                    bias[index].copy_(layer.bias)
        embedding, positions = torch.randn(2, 256, 5, 7), torch.randn(2, 256, 5, 7)
        skips = [torch.randn(2, 256, 20, 28), torch.randn(2, 256, 10, 14)]
        tokens, flat = reference.transformer(embedding, positions, reference.mask_tokens.weight.expand(2, -1, -1))
        up1, norm, act1, up2, act2 = reference.output_upscaling
        x = flat.transpose(1, 2).reshape(2, 256, 5, 7)
        x = act2(up2(act1(norm(up1(x) + reference.conv_s1(skips[1])))) + reference.conv_s0(skips[0]))
        kernels = torch.stack([mlp(tokens[:, index]) for index, mlp in enumerate(mlps)], dim=1)
        expected = torch.einsum("bkc,bchw->bkhw", kernels, x)
        at_stride_4 = torch.empty(2, 3, 20, 28)  # no interpolation
        assert relative_error(decoder(embedding, positions, skips, at_stride_4), expected) < 1e-5

    def test_keeps_nothing_of_sam2_that_it_does_not_use(self):
        reference = MaskDecoder(
            transformer_dim=256,
            transformer=TwoWayTransformer(2, 256, 8, 2048),
            use_high_res_features=True,
            pred_obj_scores=True,
        )
        names = {name.split(".")[0] for name in PromptFreeMaskDecoder(3).state_dict()}
        kept = names & {name.split(".")[0] for name in reference.state_dict()}
        assert kept == {"transformer", "output_upscaling", "conv_s0", "conv_s1"}
        assert names - kept == {"class_tokens", "class_hypernetworks"}

    @pytest.mark.parametrize("out_channels", [0, -1])
    def test_ill_arg(self, out_channels):
        with pytest.raises(ValueError, match=f"out_channels must be at least 1, got {out_channels}"):
            PromptFreeMaskDecoder(out_channels)

    def test_init_head_with_another_shape_changes_nothing(self):
        decoder = PromptFreeMaskDecoder(3)
        before = {name: value.clone() for name, value in decoder.state_dict().items()}
        weights, biases = [torch.ones(256, 256)] * 2 + [torch.ones(32, 256)], [torch.ones(256)] * 2 + [torch.ones(32)]
        with pytest.raises(ValueError, match=r"the mask token has shape \(4, 256\), expected \(256,\)"):
            decoder.init_head(torch.ones(4, 256), weights, biases)
        with pytest.raises(ValueError, match="the layers have the shapes"):
            decoder.init_head(torch.ones(256), weights[:2], biases)
        assert all(torch.equal(value, before[name]) for name, value in decoder.state_dict().items())
