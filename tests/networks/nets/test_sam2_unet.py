# SPDX-License-Identifier: Apache-2.0
"""SAM2-UNet: shapes, equality with a plain second writing, what is trained, and state."""

from __future__ import annotations

import copy

import pytest
import torch
from monai.losses import DeepSupervisionLoss
from reference_sam2_unet import ReferenceSAM2UNet
from torch import nn

from monai_sam2adapter.losses import StructureLoss
from monai_sam2adapter.networks.adapters import adapter_names, remove_adapters
from monai_sam2adapter.networks.nets import SAM2UNet
from monai_sam2adapter.networks.utils import parameter_table
from monai_sam2adapter.networks.weights import (
    load_peer_checkpoint,
    load_sam2_checkpoint,
    prepare_base_weights,
)

SHAPES = [
    pytest.param({}, (1, 3, 32, 32), 1, id="smallest"),
    pytest.param({"in_channels": 1, "out_channels": 4}, (2, 1, 33, 47), 4, id="one channel, odd"),
    pytest.param({"in_channels": 5, "out_channels": 2}, (1, 5, 100, 75), 2, id="five channels"),
    pytest.param({"variant": "small"}, (1, 3, 63, 40), 1, id="small"),
    pytest.param({"variant": "base_plus"}, (1, 3, 63, 40), 1, id="base_plus"),
    *(pytest.param({"adapter": name}, (1, 3, 65, 64), 1, id=name) for name in [*adapter_names(), "none", "full"]),
]


def build(**kwargs):
    return SAM2UNet(**({"variant": "tiny"} | kwargs))


@pytest.fixture(scope="module")
def net(randomize):
    """All weights random, in eval mode; tests must leave it as it is."""
    return randomize(build(in_channels=2, out_channels=3)).eval()


class TestShapes:
    @pytest.mark.parametrize(("kwargs", "shape", "classes"), SHAPES)
    def test_one_tensor_in_evaluation_and_three_in_training(self, kwargs, shape, classes):
        net, expected = build(**kwargs), (shape[0], classes, *shape[2:])
        with torch.no_grad():
            out = net.eval()(torch.rand(shape))
            # two images, since BatchNorm asks for more than one value of a channel
            outs = net.train()(torch.rand(2, *shape[1:]))
        assert out.shape == expected
        assert out.isfinite().all()
        assert [tuple(each.shape) for each in outs] == 3 * [(2, *expected[1:])]

    def test_one_channel_is_repeated(self, randomize):
        gray = randomize(build(in_channels=1)).eval()
        color = build().eval()
        color.load_state_dict(gray.state_dict())
        x = torch.rand(1, 1, 64, 64)
        assert torch.equal(gray(x), color(x.repeat(1, 3, 1, 1)))

    @pytest.mark.parametrize(
        ("kwargs", "text"),
        [
            ({"variant": "tinny"}, "did you mean 'tiny'"),
            ({"adapter": "bottlenek"}, "did you mean 'bottleneck'"),
            ({"out_channels": 0}, "out_channels must be at least 1, got 0"),
            ({"freeze": ["mask_decoder"]}, r"(?s)mask_decoder.*image_encoder"),
        ],
        ids=str,
    )
    def test_ill_arg(self, kwargs, text):
        with pytest.raises(ValueError, match=text):
            build(**kwargs)


class TestReference:
    @pytest.mark.parametrize("shape", [(1, 3, 352, 352), (2, 3, 64, 96)], ids=str)
    def test_outputs_equal_the_plain_writing(self, shape, randomize, relative_error, tmp_path):
        reference = randomize(ReferenceSAM2UNet("tiny")).eval()
        torch.save(reference.state_dict(), tmp_path / "theirs.pth")
        net = build()
        load_peer_checkpoint(net, tmp_path / "theirs.pth")
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()  # the reference is in eval mode, and this net in training, for its three outputs
        x = torch.randn(shape)
        with torch.no_grad():
            expected = reference(x)
            assert [relative_error(*pair) < 1e-5 for pair in zip(net(x), expected, strict=True)] == [True] * 3
            assert (net.eval()(x) - expected[0]).abs().max() < 1e-4


class TestTraining:
    @pytest.mark.parametrize("adapter", ["bottleneck", "hp"])
    def test_all_that_is_added_gets_a_gradient_and_nothing_else(self, adapter, randomize):
        net = randomize(build(adapter=adapter, in_channels=2)).train()
        loss = DeepSupervisionLoss(StructureLoss(), weight_mode="same")
        loss(net(torch.rand(2, 2, 64, 96)), (torch.rand(2, 1, 64, 96) > 0.5).float()).backward()
        added = net.added_state_names()
        for name, parameter in net.named_parameters():
            assert parameter.requires_grad == (name in added), name
            assert (parameter.grad is not None and bool(parameter.grad.any())) == (name in added), name

    def test_full_trains_all(self):
        net = build(adapter="full")
        assert all(parameter.requires_grad for parameter in net.parameters())
        assert all(module.training for module in net.modules())

    def test_activation_checkpointing_gives_the_same_gradients(self, randomize):
        gradients = []
        for saving in (False, True):
            net = randomize(build(activation_checkpointing=saving)).train()
            x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
            sum(out.square().mean() for out in net(x)).backward()
            gradients.append(net.image_encoder.trunk.blocks[3].adapters["bottleneck"].down.weight.grad)
        assert torch.allclose(*gradients, rtol=1e-4)


class TestState:
    def test_removal_of_adapters_gives_the_bare_trunk(self, net, randomize):
        bare = build(adapter="none", in_channels=2, out_channels=3).eval()
        bare.load_state_dict({k: v for k, v in net.state_dict().items() if ".adapters." not in k})
        stripped = copy.deepcopy(net)
        x = torch.rand(1, 2, 64, 64)
        assert not torch.equal(stripped(x), bare(x))
        assert remove_adapters(stripped) == 12
        assert torch.equal(stripped(x), bare(x))

    def test_parts_of_the_table(self, net):
        parts = [line.split()[0] for line in parameter_table(net).splitlines()[1:]]
        assert parts == ["image_encoder", "input_projection", "adapters", "decoder", "all"]

    def test_sam2_checkpoint_loads_into_the_trunk(self, tmp_path, caplog):
        net = build()
        names = net.sam2_state_names()
        assert all(name.startswith("image_encoder.trunk.") for name in names)
        tensors = {name: torch.full_like(net.state_dict()[name], 0.5) for name in names}
        torch.save({"model": tensors | {"no_mem_embed": torch.zeros(1, 1, 256)}}, tmp_path / "sam2_hiera_tiny.pt")
        with pytest.raises(ValueError, match="no SAM 2 weights were given, and image_encoder would stay random"):
            prepare_base_weights(net, None)
        report = load_sam2_checkpoint(net, tmp_path / "sam2_hiera_tiny.pt")
        assert (report.variant, set(report.loaded), report.initialized) == ("tiny", names, ())
        assert all(bool((net.state_dict()[name] == 0.5).all()) for name in names)
        prepare_base_weights(net, None)

    def test_a_traced_net_serves_other_sizes(self, net, relative_error):
        traced = torch.jit.trace(copy.deepcopy(net).requires_grad_(False), torch.rand(1, 2, 100, 75))
        x = torch.rand(1, 2, 64, 130)
        assert relative_error(traced(x), net(x)) < 1e-5
