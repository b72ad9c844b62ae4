# SPDX-License-Identifier: Apache-2.0
"""The whole network: shapes, options, freezing, counts and state."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from monai_sam2adapter.networks.adapters import AdapterConfig
from monai_sam2adapter.networks.nets import SAM2_VARIANTS, PromptFreeSAM2
from monai_sam2adapter.networks.utils import parameter_table

PARTS = ("image_encoder", "prompt_encoder", "mask_decoder")

SHAPES = [
    pytest.param({"in_channels": 3, "out_channels": 2}, (1, 3, 32, 32), (1, 2, 32, 32), id="smallest"),
    pytest.param({"in_channels": 1, "out_channels": 4}, (2, 1, 33, 47), (2, 4, 33, 47), id="one channel, odd"),
    pytest.param({"in_channels": 2, "out_channels": 1}, (1, 2, 100, 75), (1, 1, 100, 75), id="two channels"),
    pytest.param({"in_channels": 5, "out_channels": 9}, (3, 5, 64, 32), (3, 9, 64, 32), id="five channels, batch"),
    pytest.param({"adapter": "lw"}, (1, 3, 240, 250), (1, 2, 240, 250), id="lw"),
    pytest.param({"adapter": "none"}, (1, 3, 65, 64), (1, 2, 65, 64), id="no adapter"),
    pytest.param({"adapter": "full"}, (1, 3, 64, 97), (1, 2, 64, 97), id="full"),
    pytest.param({"positional_encoding": "sam2"}, (2, 3, 300, 33), (2, 2, 300, 33), id="sam2 positions"),
    pytest.param({"pad_windows": True}, (1, 3, 100, 75), (1, 2, 100, 75), id="padded windows"),
    pytest.param({"variant": "small"}, (1, 3, 63, 40), (1, 2, 63, 40), id="small"),
    pytest.param({"variant": "base_plus"}, (1, 3, 63, 40), (1, 2, 63, 40), id="base_plus"),
]


@pytest.fixture(scope="module")
def net(randomize):
    """A net of all added parts with random weights; tests must leave it as it is."""
    return randomize(PromptFreeSAM2("tiny", adapter="lw", in_channels=2, out_channels=4)).eval()


class TestShapes:
    @pytest.mark.parametrize(("kwargs", "input_shape", "expected_shape"), SHAPES)
    def test_shape(self, kwargs, input_shape, expected_shape):
        net = PromptFreeSAM2(**kwargs).eval()
        with torch.no_grad():
            out = net(torch.rand(input_shape))
        assert out.shape == expected_shape
        assert out.isfinite().all()

    def test_one_channel_is_repeated(self, net, randomize):
        gray = randomize(PromptFreeSAM2("tiny", in_channels=1)).eval()
        color = PromptFreeSAM2("tiny", in_channels=3).eval()
        weights = {name: value for name, value in gray.state_dict().items() if name != "input_channels"}
        color.load_state_dict(weights, strict=False)
        x = torch.rand(1, 1, 64, 64)
        assert torch.equal(gray(x), color(x.repeat(1, 3, 1, 1)))

    def test_images_of_a_batch_do_not_mix(self, net, relative_error):
        x = torch.rand(3, 2, 64, 80)
        assert relative_error(net(x), torch.cat([net(image) for image in x.split(1)])) < 1e-5

    def test_padded_windows_give_the_same_output(self, net, relative_error):
        padded = PromptFreeSAM2("tiny", adapter="lw", in_channels=2, out_channels=4, pad_windows=True).eval()
        padded.load_state_dict(net.state_dict())
        x = torch.rand(1, 2, 100, 150)
        assert relative_error(padded(x), net(x)) < 1e-5

    def test_channels_last_input_gives_the_same_output(self, net, relative_error):
        x = torch.rand(2, 2, 64, 80)
        assert relative_error(net(x.contiguous(memory_format=torch.channels_last)), net(x)) < 1e-5


class TestForward:
    def test_decoder_gets_the_embedding_as_sam2_gives_it_to_a_frame_without_memory_and_prompt(
        self, net, relative_error
    ):
        calls = []
        handle = net.sam_mask_decoder.register_forward_pre_hook(lambda module, args: calls.append(args))
        x = torch.rand(1, 2, 64, 64)
        net(x)
        handle.remove()
        features = net.image_encoder(net.input_projection(x))
        expected = features[2] + net.no_mem_embed.reshape(1, 256, 1, 1)
        expected = expected + net.sam_prompt_encoder.no_mask_embed.weight.reshape(1, 256, 1, 1)
        ((embedding, positions, skips, _image),) = calls
        assert relative_error(embedding, expected) < 1e-6
        assert relative_error(positions, net.positional_encoding(expected)) < 1e-6
        assert [torch.equal(skip, feature) for skip, feature in zip(skips, features, strict=False)] == [True, True]

    def test_every_class_has_its_own_token_and_network(self, net):
        x = torch.rand(1, 2, 64, 64)
        before = net(x)
        changed = copy.deepcopy(net)
        with torch.no_grad():
            changed.sam_mask_decoder.class_hypernetworks.biases[-1][2] += 1
        differs = (changed(x) != before).flatten(2).any(dim=2)
        assert differs.tolist() == [[False, False, True, False]]

    def test_init_head_starts_every_class_from_one_network(self, net, relative_error):
        changed = copy.deepcopy(net)
        shapes = [(256, 256), (256, 256), (32, 256)]
        changed.init_head(
            torch.randn(256),
            [0.1 * torch.randn(shape) for shape in shapes],
            [torch.randn(shape[0]) for shape in shapes],
        )
        out = changed(torch.rand(1, 2, 64, 64))
        assert out.std() > 0
        assert relative_error(out, out[:, :1].expand_as(out)) < 1e-5


class TestErrors:
    @pytest.mark.parametrize(
        ("kwargs", "text"),
        [
            ({"variant": "tinny"}, r"did you mean 'tiny'(.|\n)*base_plus"),
            ({"adapter": "hpp"}, r"did you mean 'hp'(.|\n)*full"),
            ({"adapter": "adaptor"}, r"Available options are .*'full'.*"),
            ({"positional_encoding": "pge"}, r"did you mean 'peg'(.|\n)*sam2"),
            ({"in_channels": 0}, "in_channels must be at least 1, got 0"),
            ({"out_channels": 0}, "out_channels must be at least 1, got 0"),
            ({"freeze": "image_encoder"}, r"got the string 'image_encoder'; write \['image_encoder'\]"),
            ({"freeze": ["image_encodr"]}, "did you mean 'image_encoder'"),
            ({"adapter": "full", "freeze": ["image_encoder"]}, "trains all weights, but freeze names"),
            ({"adapter": "none", "adapter_config": {"scale": 1.0}}, "adapter 'none' has no settings"),
            ({"adapter": "full", "adapter_config": AdapterConfig()}, "adapter 'full' has no settings"),
            ({"adapter_config": {"ratio": 1.0}}, "unknown adapter setting ratio"),
        ],
        ids=str,
    )
    def test_ill_arg(self, kwargs, text):
        with pytest.raises(ValueError, match=text):
            PromptFreeSAM2(**kwargs)


class TestFreeze:
    @pytest.mark.parametrize(
        ("freeze", "frozen"),
        [
            (None, PARTS),
            ([], ()),
            (["image_encoder"], ("image_encoder",)),
            (["mask_decoder", "prompt_encoder"], ("prompt_encoder", "mask_decoder")),
            (PARTS, PARTS),
        ],
        ids=["default", "nothing", "image encoder", "decoder and prompts", "all"],
    )
    def test_each_part_is_trained_or_not(self, freeze, frozen):
        net = PromptFreeSAM2("tiny", adapter="lw", positional_encoding="sam2", in_channels=2, freeze=freeze)
        assert net.frozen_parts == frozen
        groups = net.parameter_groups()
        assert set(groups) == {*PARTS, "adapters", "class_head", "input_projection"}
        for part, parameters in groups.items():
            assert parameters
            assert {p.requires_grad for p in parameters} == {part not in frozen}, part

    def test_state_names_are_split_into_those_of_sam2_and_the_added_ones(self, net):
        assert net.sam2_state_names() | net.added_state_names() == set(net.state_dict())
        assert not net.sam2_state_names() & net.added_state_names()
        prefixes = {".".join(name.split(".")[:2]) for name in net.added_state_names()}
        assert prefixes == {
            "image_encoder.trunk",
            "input_channels",
            "input_projection.weight",
            "input_projection.bias",
            "positional_encoding.conv",
            "sam_mask_decoder.class_tokens",
            "sam_mask_decoder.class_hypernetworks",
        }

    @pytest.mark.parametrize("positional_encoding", ["peg", "sam2"])
    def test_full_trains_all_that_is_used(self, positional_encoding, randomize):
        net = randomize(PromptFreeSAM2("tiny", "full", positional_encoding, in_channels=2, out_channels=3))
        net(torch.rand(2, 2, 64, 96)).square().sum().backward()
        unused = {name for name, p in net.named_parameters() if not p.requires_grad}
        positions = {"image_encoder.trunk.pos_embed", "image_encoder.trunk.pos_embed_window"}
        assert unused == (positions if positional_encoding == "peg" else set())
        without = {name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()}
        # The bias of keys shifts all logits of a query by one number, which softmax ignores.
        assert {name for name in without - unused if not name.endswith("k_proj.bias")} == set()
        assert all(module.training for module in net.modules())


class TestCounts:
    @pytest.mark.parametrize("variant", SAM2_VARIANTS)
    def test_frozen_part_is_that_of_the_official_file(self, variant, checkpoint_keys):
        shapes = json.loads((checkpoint_keys / f"sam2.1_hiera_{variant}.json").read_text())
        decoder = tuple(
            f"sam_mask_decoder.{name}" for name in ("transformer", "output_upscaling", "conv_s0", "conv_s1")
        )
        prompts = ("no_mem_embed", "sam_prompt_encoder.no_mask_embed", "sam_prompt_encoder.pe_layer")
        used = {
            name: shape for name, shape in shapes.items() if name.startswith(("image_encoder.", *prompts, *decoder))
        }
        net = PromptFreeSAM2(variant, adapter="lw", in_channels=1, out_channels=4)
        state = net.state_dict()
        assert {name: list(state[name].shape) for name in net.sam2_state_names()} == used
        buffer = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
        expected = sum(torch.Size(shape).numel() for name, shape in used.items() if name != buffer)
        assert sum(p.numel() for p in net.parameters() if not p.requires_grad) == expected

    def test_trained_parameters_by_hand(self):
        net = PromptFreeSAM2("tiny", adapter="none", in_channels=2, out_channels=4)
        counts = {part: sum(p.numel() for p in group) for part, group in net.parameter_groups().items()}
        # A token, and three layers of 256 -> 256 -> 256 -> 32 with biases, for each of 4 classes.
        assert counts["class_head"] == 4 * (256 + 2 * (256 * 256 + 256) + 32 * 256 + 32)
        # Depthwise 3x3 with bias over 96 channels of the trunk and over 256 of the decoder.
        assert counts["positional_encoding"] == (96 + 256) * (9 + 1)
        assert counts["input_projection"] == 2 * 3 + 3

    def test_parameter_table(self):
        net = PromptFreeSAM2("tiny", adapter="lw", out_channels=4)
        lines = [line.split() for line in parameter_table(net).splitlines()]
        assert lines[0] == ["part", "trained", "total", "share"]
        rows = {line[0]: line[1:] for line in lines[1:]}
        assert list(rows) == [*PARTS, "positional_encoding", "adapters", "class_head", "all"] or list(rows) == [
            *PARTS, "adapters", "positional_encoding", "class_head", "all",
        ]  # fmt: skip
        assert rows["prompt_encoder"] == ["0", "512", "0.0%"]
        assert rows["positional_encoding"] == ["3,520", "3,520", "100.0%"]
        trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
        total = sum(p.numel() for p in net.parameters())
        assert rows["all"] == [f"{trained:,}", f"{total:,}", f"{trained / total:.1%}"]


class TestState:
    def test_config_says_all_that_builds_the_net(self, net):
        assert net.config == {
            "variant": "tiny",
            "adapter": "lw",
            "adapter_config": {"bottleneck_ratio": 0.25, "scale": 0.5, "blocks": None},
            "positional_encoding": "peg",
            "in_channels": 2,
            "out_channels": 4,
            "freeze": list(PARTS),
        }

    def test_building_a_net_twice_with_one_config_does_not_change_it(self):
        config = {"bottleneck_ratio": 0.5, "blocks": [0, 1]}
        nets = [PromptFreeSAM2("tiny", adapter_config=config) for _ in range(2)]
        assert config == {"bottleneck_ratio": 0.5, "blocks": [0, 1]}
        assert nets[0].config == nets[1].config

    def test_autocast_is_finite_and_near_float32(self, net, relative_error):
        x = torch.rand(1, 2, 100, 75)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = net(x)
        assert relative_error(out.float(), net(x)) < 0.1


class TestActivationCheckpointing:
    @pytest.mark.parametrize("adapter", ["hp", "lw", "full"])
    def test_same_output_gradients_and_statistics_with_blocks_run_twice(self, adapter, randomize, relative_error):
        plain = randomize(PromptFreeSAM2("tiny", adapter=adapter)).train()
        saving = PromptFreeSAM2("tiny", adapter=adapter, activation_checkpointing=True).train()
        saving.load_state_dict(plain.state_dict())
        x = torch.rand(2, 3, 64, 96)
        outputs, calls = [], []
        for net in (plain, saving):
            count = []
            net.image_encoder.trunk.blocks[5].norm1.register_forward_hook(lambda *_, count=count: count.append(1))
            outputs.append(net(x))
            outputs[-1].square().sum().backward()
            calls.append(len(count))
        assert calls == [1, 2]
        assert relative_error(outputs[1], outputs[0]) < 1e-6
        gradients = {name: p.grad for name, p in plain.named_parameters() if p.grad is not None}
        assert gradients
        for name, parameter in saving.named_parameters():
            if name not in gradients:
                assert parameter.grad is None, name
            elif gradients[name].any():
                assert relative_error(parameter.grad, gradients[name]) < 1e-5, name
        for (name, value), expected in zip(saving.named_buffers(), plain.buffers(), strict=True):
            assert torch.equal(value, expected), name

    def test_nothing_is_run_twice_without_gradients(self):
        net = PromptFreeSAM2("tiny", activation_checkpointing=True)
        calls = []
        net.image_encoder.trunk.blocks[5].norm1.register_forward_hook(lambda *_: calls.append(1))
        with torch.no_grad():
            net(torch.rand(1, 3, 64, 64))
        assert len(calls) == 1
