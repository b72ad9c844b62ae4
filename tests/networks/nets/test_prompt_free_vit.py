# SPDX-License-Identifier: Apache-2.0
"""DINOv3 in the place of SAM 2's encoder: equal to timm's, with weights by timm's names, and exported."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from monai_sam2adapter.networks.adapters import inject_adapters, merge_adapters, remove_adapters, unmerge_adapters
from monai_sam2adapter.networks.export import export_network
from monai_sam2adapter.networks.nets import (
    VIT_ENCODERS,
    DINOv3Trunk,
    PromptFreeSAM2,
    PromptFreeViT,
    build_prompt_free,
    default_variant,
)
from monai_sam2adapter.networks.weights import (
    CheckpointMismatchError,
    load_network_weights,
    prepare_base_weights,
    save_adapter,
)

timm = pytest.importorskip("timm", reason="timm is missing; install the extra 'dinov3'")


@pytest.fixture(scope="module")
def reference(randomize):
    """timm's own small DINOv3 with random weights."""
    return randomize(timm.create_model("vit_small_patch16_dinov3", num_classes=0)).eval()


@pytest.fixture(scope="module")
def weights(reference, tmp_path_factory):
    path = tmp_path_factory.mktemp("dinov3") / "vit_small.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in reference.state_dict().items()}, path)
    return path


def make_trunk(reference, positional_encoding="rope"):
    trunk = DINOv3Trunk("small", positional_encoding).eval()
    trunk.load_state_dict(reference.state_dict(), strict=positional_encoding == "rope")
    return trunk


def map_of(reference, x):
    height, width = (side // 16 for side in x.shape[-2:])
    return reference.forward_features(x)[:, 5:].transpose(1, 2).reshape(len(x), -1, height, width)


class TestDINOv3Trunk:
    @pytest.mark.parametrize("size", [(32, 32), (64, 96), (224, 224), (80, 48)], ids=str)
    def test_equals_timms(self, reference, size, relative_error):
        trunk, x = make_trunk(reference), torch.randn(2, 3, *size)
        with torch.no_grad():
            (got,) = trunk(x)
            assert relative_error(got, map_of(reference, x)) < 1e-5
        assert (trunk.strides, trunk.channels) == ((16,), (384,))

    def test_gradients_equal_timms(self, reference, relative_error):
        trunk, x = make_trunk(reference), torch.randn(1, 3, 64, 48)
        upstream = torch.randn(1, 384, 4, 3)
        trunk(x)[0].backward(upstream)
        reference.zero_grad()
        map_of(reference, x).backward(upstream)
        for name, parameter in reference.named_parameters():
            if parameter.grad is not None and parameter.grad.abs().max() > 1e-6:
                assert relative_error(trunk.get_parameter(name).grad, parameter.grad) < 1e-3, name

    @pytest.mark.parametrize("variant", ["base", "large"])
    def test_every_variant_has_timms_names_and_shapes(self, variant):
        with torch.device("meta"):
            trunk = DINOv3Trunk(variant, "rope")
            other = timm.create_model(f"vit_{variant}_patch16_dinov3", num_classes=0)
        shapes = [{name: tensor.shape for name, tensor in net.state_dict().items()} for net in (trunk, other)]
        assert shapes[0] == shapes[1]

    def test_peg_starts_as_nothing_and_keeps_the_rotary_positions(self, reference, randomize, relative_error):
        trunk, x = make_trunk(reference, "peg"), torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            expected = map_of(reference, x)
            assert relative_error(trunk(x)[0], expected) < 1e-5
            randomize(trunk.positional_encoding)
            assert relative_error(trunk(x)[0], expected) > 1e-2

    def test_size_that_does_not_fit_is_answered_with_one_that_does(self):
        with pytest.raises(ValueError, match=r"spatial size \(100, 64\) must be divisible by 16; pad to \(112, 64\)"):
            DINOv3Trunk("small")(torch.rand(1, 3, 100, 64))

    def test_adapters_of_single_tokens_see_all_of_them_and_others_the_map(self, reference):
        trunk, seen = make_trunk(reference), {}
        for name in ("adaptformer", "hp", "lora", "bottleneck", "conv_lora"):
            inject_adapters(trunk, name, {"blocks": [0]})
            trunk.blocks[0].adapters[name].register_forward_pre_hook(
                lambda module, args, name=name: seen.update({name: tuple(args[0].shape)})
            )
        trunk(torch.rand(2, 3, 64, 96))
        alone, mixed = (2, 1, 5 + 24, 384), (2, 4, 6, 384)
        assert seen == {"adaptformer": alone, "lora": alone, "bottleneck": alone, "hp": mixed, "conv_lora": mixed}

    def test_lora_is_merged_with_the_same_output_and_taken_out_again(self, reference, randomize, relative_error):
        trunk, x = make_trunk(reference), torch.rand(1, 3, 64, 48)
        with torch.no_grad():
            before = trunk(x)[0]
            inject_adapters(trunk, "lora")
            randomize(trunk.blocks[3].adapters)
            expected = trunk(x)[0]
            assert relative_error(expected, before) > 1e-2
            assert merge_adapters(trunk) == 12
            assert relative_error(trunk(x)[0], expected) < 1e-4
            assert unmerge_adapters(trunk) == 12
            assert remove_adapters(trunk) == 12
            assert torch.equal(trunk(x)[0], before)

    def test_recomputed_blocks_give_the_same_gradients(self, reference, randomize):
        gradients = []
        for recomputing in (False, True):
            net = randomize(PromptFreeViT("small", "lw", activation_checkpointing=recomputing)).train()
            net(torch.ones(2, 3, 32, 32)).square().mean().backward()
            gradients.append({name: p.grad for name, p in net.named_parameters() if p.grad is not None})
        torch.testing.assert_close(*gradients)


class TestWeights:
    def test_a_file_of_timm_is_loaded_and_named(self, reference, weights, caplog):
        caplog.set_level("INFO")
        net = PromptFreeViT(checkpoint=str(weights))
        for name, tensor in reference.state_dict().items():
            assert torch.equal(net.image_encoder.trunk.state_dict()[name], tensor), name
        assert net.base_checkpoint == "vit_small"
        assert "DINOv3 License" in caplog.text

    def test_other_files_are_refused_and_change_nothing(self, weights, tmp_path):
        net = PromptFreeViT()
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        torch.save(PromptFreeSAM2("tiny", "none").state_dict(), tmp_path / "sam2.pt")
        with pytest.raises(
            CheckpointMismatchError, match=r"Load timm's own file of the variant, vit_\*_patch16_dinov3"
        ):
            net.load_base(tmp_path / "sam2.pt")
        with torch.device("meta"):
            other = PromptFreeViT("base")
        with pytest.raises(CheckpointMismatchError, match="it differs in"):
            other.load_base(weights)
        with pytest.raises(FileNotFoundError, match="give DINOv3's weights, or 'timm' to download them"):
            net.load_base(tmp_path / "none.safetensors")
        assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in before.items())

    def test_timm_is_asked_for_its_own(self, reference, monkeypatch):
        asked = []

        def create_model(name, pretrained, **kwargs):
            asked.append((name, pretrained))
            return reference

        net = PromptFreeViT()
        monkeypatch.setattr(timm, "create_model", create_model)
        prepare_base_weights(net, "timm")
        assert asked == [("vit_small_patch16_dinov3", True)]
        assert torch.equal(net.image_encoder.trunk.norm.weight, reference.norm.weight)

    def test_random_weights_must_be_asked_for(self, caplog):
        with pytest.raises(ValueError, match="no DINOv3 weights were given, and image_encoder would stay random"):
            prepare_base_weights(PromptFreeViT(), None)
        prepare_base_weights(PromptFreeViT(), "random")
        assert "Training starts from random weights, with image_encoder frozen" in caplog.text

    def test_files_of_another_encoder_are_refused_by_one_message(self, tmp_path):
        nets = {"dinov3": PromptFreeViT("small", "none"), "sam2": PromptFreeSAM2("tiny", "none")}
        for name, net in nets.items():
            torch.save(net.state_dict(), tmp_path / f"{name}.pt")
        with pytest.raises(CheckpointMismatchError, match=r"with encoder dinov3, this one has sam2; .*variant small"):
            load_network_weights(nets["sam2"], tmp_path / "dinov3.pt")
        with pytest.raises(CheckpointMismatchError, match=r"with encoder sam2, this one has dinov3; .*variant tiny"):
            load_network_weights(nets["dinov3"], tmp_path / "sam2.pt")
        with pytest.raises(CheckpointMismatchError, match="with encoder sam2, this one has dinov3"):
            prepare_base_weights(nets["dinov3"], "random", init_checkpoint=tmp_path / "sam2.pt")

    def test_another_training_starts_from_an_adapter_file(self, tmp_path):
        net = PromptFreeViT("small", "lw")
        save_adapter(net, tmp_path / "a.safetensors")
        for wrong, text in ((PromptFreeSAM2("tiny", "lw"), "is of encoder dinov3, the net is sam2"),):
            with pytest.raises(CheckpointMismatchError, match=text):
                prepare_base_weights(wrong, "random", init_checkpoint=tmp_path / "a.safetensors")
        other = PromptFreeViT("small", "lw")
        prepare_base_weights(other, "random", init_checkpoint=tmp_path / "a.safetensors")
        assert torch.equal(other.neck.convs[0][0].weight, net.neck.convs[0][0].weight)


@pytest.mark.parametrize("file_format", ["ts", pytest.param("pt2", marks=pytest.mark.slow)])
def test_is_exported_for_every_size(file_format, randomize, tmp_path):
    net = randomize(PromptFreeViT("small", "lora", in_channels=1)).eval()
    errors = export_network(net, tmp_path / f"net.{file_format}", file_format, shapes=((1, 32, 32), (2, 33, 47)))
    assert max(errors.values()) < 1e-4


class TestBuildPromptFree:
    def test_builds_the_network_of_the_encoder(self):
        with torch.device("meta"):
            assert type(build_prompt_free()) is PromptFreeSAM2
            net = build_prompt_free("dinov3", adapter="lora", output_stride=2)
        assert type(net) is PromptFreeViT
        assert (net.config["variant"], net.config["encoder"], net.config["output_stride"]) == ("small", "dinov3", 2)
        assert [default_variant(name) for name in ("sam2", *VIT_ENCODERS)] == ["tiny", "small", "large"]

    @pytest.mark.parametrize(
        ("kwargs", "text"),
        [
            ({"encoder": "dino3"}, "did you mean 'dinov3'"),
            ({"encoder": "dinov3", "variant": "tiny"}, "variant of encoder dinov3 must be one of small, base, large"),
            ({"encoder": "sam3", "variant": "small"}, "variant of encoder sam3 must be one of large, got 'small'"),
            ({"encoder": "dinov3", "positional_encoding": "sam2"}, "must be one of peg, rope, got 'sam2'"),
            ({"positional_encoding": "rope"}, "positional_encoding of encoder sam2 must be one of peg, sam2"),
            ({"encoder": "sam3", "output_stride": 2}, "output_stride of encoder sam3 must be one of 4, got 2"),
        ],
        ids=str,
    )
    def test_ill_arg(self, kwargs, text):
        with pytest.raises(ValueError, match=text):
            build_prompt_free(**kwargs)
