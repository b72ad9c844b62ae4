# SPDX-License-Identifier: Apache-2.0
"""The released files of SAM2-UNet and SAM2-UNeXT, with random or constant tensors under their names."""

from __future__ import annotations

import json

import pytest
import torch

from monai_sam2adapter.networks.nets import SAM2UNet, SAM2UNeXT
from monai_sam2adapter.networks.weights import CheckpointFormatError, CheckpointMismatchError, load_peer_checkpoint

TRUNK = "image_encoder.trunk.blocks.1"


def their_name(name, trunk):
    """The other way round than the package: ours to theirs."""
    for layer, number in (("down", 0), ("up", 2)):
        if f".adapters.bottleneck.{layer}." in name:
            name = name.replace(f"adapters.bottleneck.{layer}", f"prompt_learn.{number}")
            return name.replace("image_encoder.trunk", trunk)
    parts = name.removeprefix("image_encoder.trunk.").split(".")
    if parts[0] == "blocks":
        parts.insert(2, "block")
    return f"{trunk}.{'.'.join(parts)}" if name.startswith("image_encoder.") else name


def theirs_of(net, trunk):
    generator = torch.Generator().manual_seed(0)
    return {
        their_name(name, trunk): torch.rand(tensor.shape, generator=generator)
        if tensor.is_floating_point()
        else torch.tensor(7)
        for name, tensor in net.state_dict().items()
    }


def assert_refuses(net, path, error, message):
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(error, match=message):
        load_peer_checkpoint(net, path)
    assert net.base_checkpoint is None
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.fixture
def net():
    return SAM2UNet("tiny")


@pytest.fixture
def theirs(net):
    return theirs_of(net, "encoder")


class TestReleasedNames:
    """All names and shapes of the real files, each tensor of one number, so that the file is small."""

    @pytest.mark.parametrize(
        ("net_class", "names", "unused"),
        [(SAM2UNet, "sam2_unet_hiera_large", 12), (SAM2UNeXT, "sam2_unext", 0)],
        ids=["SAM2-UNet", "SAM2-UNeXT"],
    )
    def test_every_tensor_arrives(self, net_class, names, unused, checkpoint_keys, tmp_path, on_meta):
        if net_class is SAM2UNeXT:
            pytest.importorskip("timm", reason="timm is missing; install the extra 'unext'")
        shapes = json.loads((checkpoint_keys / f"{names}.json").read_text())
        values = {name: float(index) for index, name in enumerate(shapes, start=1)}
        tensors = {name: torch.tensor(values[name]).expand(shape) for name, shape in shapes.items()}
        torch.save(tensors, tmp_path / f"{names}.pth")
        with on_meta:  # not drawn at random first, which would take most of the time
            net = net_class()
        net = net.to_empty(device="cpu").eval()
        report = load_peer_checkpoint(net, tmp_path / f"{names}.pth")
        assert (len(report.loaded), len(report.unused), report.resized) == (len(shapes) - unused, unused, ())
        state = net.state_dict()
        assert set(report.loaded) == set(state)
        trunk = {SAM2UNet: "encoder", SAM2UNeXT: "sam"}[net_class]
        for name, tensor in state.items():
            lowest, highest = tensor.aminmax()
            assert lowest == highest == values[their_name(name, trunk)], name
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(1e-6)
            assert net(torch.rand(1, 3, 64, 64)).shape == (1, 1, 64, 64)


class TestLoad:
    def test_report_and_name(self, net, theirs, tmp_path, caplog):
        torch.save(theirs | {"up4.conv.double_conv.0.weight": torch.zeros(64, 128, 3, 3)}, tmp_path / "peer.pth")
        with caplog.at_level("INFO", logger="monai_sam2adapter"):
            report = load_peer_checkpoint(net, tmp_path / "peer.pth")
        assert report.unused == ("up4.conv.double_conv.0.weight",)
        assert str(report) in caplog.messages
        assert "604 tensors loaded, 0 of them resized, 1 unused" in str(report)
        assert net.base_checkpoint == "peer"
        state = net.state_dict()
        assert torch.equal(state[f"{TRUNK}.attn.qkv.weight"], theirs["encoder.blocks.1.block.attn.qkv.weight"])
        down = "adapters.bottleneck.down.weight"
        assert torch.equal(state[f"{TRUNK}.{down}"], theirs["encoder.blocks.1.prompt_learn.0.weight"])
        assert state["rfb1.conv_cat.bn.num_batches_tracked"] == 7

    def test_wrapped_and_distributed_files_load(self, net, theirs, tmp_path):
        torch.save({"state_dict": {f"module.{name}": t for name, t in theirs.items()}}, tmp_path / "peer.pth")
        load_peer_checkpoint(net, tmp_path / "peer.pth")
        assert torch.equal(net.head.weight, theirs["head.weight"])

    def test_frozen_parts_stay_frozen(self, net, theirs, tmp_path):
        torch.save(theirs, tmp_path / "peer.pth")
        before = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
        load_peer_checkpoint(net, tmp_path / "peer.pth")
        assert {name for name, parameter in net.named_parameters() if parameter.requires_grad} == before

    def test_positions_of_dinov2_are_resized(self, tmp_path):
        timm = pytest.importorskip("timm", reason="timm is missing; install the extra 'unext'")
        kwargs = {"variant": "tiny", "dino_variant": "small"}
        theirs = theirs_of(SAM2UNeXT(**kwargs, dino_size=70), "sam")
        torch.save(theirs, tmp_path / "peer.pth")
        net = SAM2UNeXT(**kwargs, dino_size=98)
        report = load_peer_checkpoint(net, tmp_path / "peer.pth")
        assert report.resized == ("dino.model.pos_embed",)
        expected = timm.layers.resample_abs_pos_embed(theirs["dino.model.pos_embed"], [7, 7])
        assert torch.equal(net.dino.model.pos_embed, expected)
        assert net.dino_checkpoint == "peer"


class TestRefusals:
    def test_absent_file(self, net, tmp_path):
        assert_refuses(net, tmp_path / "no.pth", FileNotFoundError, "there is no file")

    def test_file_of_another_kind(self, net, tmp_path):
        (tmp_path / "a.pth").write_bytes(b"<html>")
        assert_refuses(net, tmp_path / "a.pth", CheckpointFormatError, "is not a checkpoint")

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"adapter": "hp"}, r"the net has adapter 'hp'.*adapter 'bottleneck' with its default settings"),
            ({"adapter": "none"}, "the net has adapter 'none'"),
            ({"adapter_config": {"scale": 0.5}}, r"'scale': 0\.5"),
            ({"adapter_config": {"width": 16}}, r"adapters\.bottleneck\.down\.weight is \(32, 96\)"),
            ({"out_channels": 2}, r"head\.weight is \(1, 64, 1, 1\) torch\.float32, expected \(2, 64, 1, 1\)"),
            ({"in_channels": 2}, r"lacks 2 of .*input_projection.*in_channels 3 and out_channels 1"),
            ({"variant": "small"}, r"is of SAM 2's variant tiny, the net is small\. Build the net with variant='tiny'"),
        ],
        ids=["adapter", "no adapter", "scale", "width", "classes", "channels", "variant"],
    )
    def test_other_options(self, theirs, tmp_path, kwargs, message):
        torch.save(theirs, tmp_path / "peer.pth")
        assert_refuses(
            SAM2UNet(**{"variant": "tiny"} | kwargs), tmp_path / "peer.pth", CheckpointMismatchError, message
        )

    def test_missing_and_unknown_tensors_are_named(self, net, theirs, tmp_path):
        torch.save(theirs | {"extra.weight": torch.zeros(1)}, tmp_path / "a.pth")
        assert_refuses(net, tmp_path / "a.pth", CheckpointMismatchError, "has 1 tensors that the network has not: ex")
        del theirs["encoder.blocks.1.block.norm1.bias"]
        torch.save(theirs, tmp_path / "b.pth")
        message = r"lacks 1 of the 604 tensors .* the authors' file: image_encoder\.trunk\.blocks\.1\.norm1\.bias"
        assert_refuses(net, tmp_path / "b.pth", CheckpointMismatchError, message)
