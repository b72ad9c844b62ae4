# SPDX-License-Identifier: Apache-2.0
"""SAM2-UNeXT: shapes, resolutions, equality with a plain second writing, what is trained, and state."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from reference_sam2_unet import ReferenceSAM2UNeXT

from monai_sam2adapter.networks.nets import SAM2UNet, SAM2UNeXT, dinov2
from monai_sam2adapter.networks.weights import (
    CheckpointMismatchError,
    load_adapter,
    load_network_weights,
    load_peer_checkpoint,
    prepare_base_weights,
    save_adapter,
)

timm = pytest.importorskip("timm", reason="timm is missing; install the extra 'unext'")

SHAPES = [
    pytest.param({}, (1, 3, 32, 32), 1, id="smallest"),
    pytest.param({"in_channels": 1, "out_channels": 4, "dino_size": 28}, (2, 1, 33, 47), 4, id="one channel, odd"),
    pytest.param({"in_channels": 5, "out_channels": 2, "dino_size": 14}, (1, 5, 100, 75), 2, id="five channels"),
    pytest.param({"sam_size": 96, "dino_size": 70}, (1, 3, 40, 131), 1, id="both resized"),
    pytest.param({"variant": "small", "adapter": "lw"}, (1, 3, 63, 40), 1, id="small"),
    pytest.param({"variant": "base_plus", "dino_variant": "base"}, (1, 3, 63, 40), 1, id="base_plus, base"),
    pytest.param({"adapter": "none"}, (1, 3, 65, 64), 1, id="none"),
    pytest.param({"adapter": "full"}, (1, 3, 65, 64), 1, id="full"),
]


def build(**kwargs):
    return SAM2UNeXT(**({"variant": "tiny", "dino_variant": "small", "dino_size": 42} | kwargs))


@pytest.fixture(scope="module")
def net(randomize):
    """All weights random, in eval mode; tests must leave it as it is."""
    return randomize(build(in_channels=2, out_channels=3)).eval()


class TestShapes:
    @pytest.mark.parametrize(("kwargs", "shape", "classes"), SHAPES)
    def test_shape(self, kwargs, shape, classes):
        with torch.no_grad():
            out = build(**kwargs).eval()(torch.rand(shape))
        assert out.shape == (shape[0], classes, *shape[2:])
        assert out.isfinite().all()

    def test_sam_size_resizes_there_and_back(self, net):
        fixed = SAM2UNeXT(**net.config | {"sam_size": 64}).eval()
        fixed.load_state_dict(net.state_dict())
        x = torch.rand(1, 2, 100, 75)
        small = F.interpolate(x, size=(64, 64), mode="bilinear", align_corners=False)
        expected = F.interpolate(net(small), size=(100, 75), mode="bilinear", align_corners=False)
        assert torch.equal(fixed(x), expected)

    @pytest.mark.parametrize(
        ("kwargs", "text"),
        [
            ({"dino_size": 450}, "multiple of 14, got 450; take 462"),
            ({"dino_size": 0}, "multiple of 14, got 0; take 14"),
            ({"sam_size": 100}, "sam_size must be a multiple of 32, or None, got 100"),
            ({"dino_variant": "larg"}, "did you mean 'large'"),
            ({"freeze": ["dinov2"]}, "did you mean 'dino'"),
        ],
        ids=str,
    )
    def test_ill_arg(self, kwargs, text):
        with pytest.raises(ValueError, match=text):
            build(**kwargs)

    def test_too_small_an_image_is_told_before_it_is_resized(self):
        with pytest.raises(ValueError, match="below 32 pixels"):
            build(sam_size=64)(torch.rand(1, 3, 20, 64))

    def test_without_timm_the_extra_is_named(self, monkeypatch):
        monkeypatch.setattr(dinov2, "optional_import", lambda name: (None, False))
        with pytest.raises(ImportError, match=r"pip install 'monai-sam2adapter\[unext\]'"):
            build()


@pytest.mark.parametrize("shape", [(1, 3, 128, 192), (2, 3, 64, 64)], ids=str)
def test_output_equals_the_plain_writing(shape, randomize, relative_error, tmp_path):
    reference = randomize(ReferenceSAM2UNeXT("tiny", "small", 70)).eval()
    torch.save(reference.state_dict(), tmp_path / "theirs.pth")
    net = build(dino_size=70).eval()
    load_peer_checkpoint(net, tmp_path / "theirs.pth")
    x = torch.randn(shape)
    with torch.no_grad():
        got, expected = net(x), reference(x)
    assert relative_error(got, expected) < 1e-5
    assert (got - expected).abs().max() < 1e-4


class TestTraining:
    def test_frozen_parts_stay_in_eval_mode(self):
        net = build().train()
        assert not any(module.training for module in net.dino.modules())
        assert net.up1.training
        assert all(module.training for module in build(freeze=["image_encoder"]).dino.modules())


class TestState:
    def test_every_parameter_has_one_part(self, net):
        groups = net.parameter_groups()
        assert list(groups) == ["image_encoder", "dino", "input_projection", "adapters", "decoder"]
        ids = [id(parameter) for group in groups.values() for parameter in group]
        assert sorted(ids) == sorted(id(parameter) for parameter in net.parameters())

    def test_adapter_file_holds_neither_encoder_and_knows_both(self, net, tmp_path):
        save_adapter(net, tmp_path / "a.safetensors")
        other = copy.deepcopy(net)
        with torch.no_grad():
            other.head.weight.zero_()
        load_adapter(other, tmp_path / "a.safetensors")
        assert torch.equal(other.head.weight, net.head.weight)
        assert not any(name.startswith("dino.") for name in net.added_state_names() | net.sam2_state_names())
        with torch.no_grad():
            other.dino.model.cls_token.add_(1)
        with pytest.raises(CheckpointMismatchError, match="trained on other SAM 2 weights"):
            load_adapter(other, tmp_path / "a.safetensors")

    def test_training_on_a_random_frozen_dinov2_has_to_be_asked_for(self):
        net = build()
        net.base_checkpoint = "sam2_hiera_tiny"
        with pytest.raises(ValueError, match=r"no DINOv2 weights were given.*dinov2_checkpoint"):
            prepare_base_weights(net, None)
        prepare_base_weights(net, "random")
        prepare_base_weights(net, None, resume=True)
        net.dino_checkpoint = "timm"
        prepare_base_weights(net, None)

    def test_training_starts_from_a_file_of_dinov2(self, tmp_path):
        net = build()
        net.base_checkpoint = "sam2_hiera_tiny"
        tensors = {name.removeprefix("model."): torch.rand_like(t) for name, t in net.dino.state_dict().items()}
        torch.save(tensors, tmp_path / "dino.pth")
        prepare_base_weights(net, None, dino_checkpoint=tmp_path / "dino.pth")
        assert torch.equal(net.dino.model.cls_token, tensors["cls_token"])
        assert net.dino_checkpoint == str(tmp_path / "dino.pth")
        with pytest.raises(ValueError, match="SAM2UNet has no DINOv2 to load timm into"):
            prepare_base_weights(SAM2UNet("tiny"), "random", dino_checkpoint="timm")

    def test_weights_of_another_dinov2_are_refused_with_their_options(self, tmp_path):
        torch.save(build(dino_size=70).state_dict(), tmp_path / "model.pt")
        with pytest.raises(CheckpointMismatchError, match=r"dino_variant small, dino_size 70.*this one has .*size 56"):
            load_network_weights(build(dino_size=56), tmp_path / "model.pt")
