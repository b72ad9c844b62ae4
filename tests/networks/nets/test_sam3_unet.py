# SPDX-License-Identifier: Apache-2.0
"""SAM3-UNet: equality with a plain second writing at equal weights, any size, and what is trained."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from monai_sam2adapter.networks.nets import SAM3Trunk, SAM3UNet
from monai_sam2adapter.networks.nets.sam3 import SAM3_CONFIGS
from monai_sam2adapter.networks.weights import CheckpointMismatchError, load_peer_checkpoint, prepare_base_weights


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A trunk of the same kind that a test can afford: windows of 4 x 4, 4 blocks of 64 channels."""
    parts = {"channels": 64, "num_heads": 4, "mlp_channels": 100, "num_blocks": 4}
    monkeypatch.setitem(SAM3_CONFIGS, "large", {**parts, "window_size": 4, "global_blocks": (1, 3)})


class PromptedBlock(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.block, self.window_size = block, block.window_size
        self.prompt_learn = nn.Sequential(nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 64), nn.GELU())

    def forward(self, x, grid, factors):
        return self.block(x + self.prompt_learn(x), grid, factors)


class ReferenceStep(nn.Module):
    """One decoder step; the second argument of the norms behind 1 x 1 convolutions is eps."""

    def __init__(self, c_in):
        super().__init__()
        self.conv = nn.Module()
        self.conv.conv_in = nn.Sequential(nn.Conv2d(c_in, c_in // 4, 1), nn.BatchNorm2d(c_in // 4, 1), nn.GELU())
        self.conv.conv_out = nn.Sequential(nn.Conv2d(c_in // 2, 128, 1), nn.BatchNorm2d(128, 1), nn.GELU())
        for name in ("dw1", "dw2"):
            conv = nn.Conv2d(c_in // 8, c_in // 8, 3, padding=1, groups=c_in // 8)
            setattr(self.conv, name, nn.Sequential(conv, nn.BatchNorm2d(c_in // 8), nn.GELU()))

    def forward(self, running, skip=None):
        if skip is not None:
            dy, dx = running.shape[2] - skip.shape[2], running.shape[3] - skip.shape[3]
            running = torch.cat([running, F.pad(skip, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])], dim=1)
        y = self.conv.conv_in(F.interpolate(running, scale_factor=2, mode="bilinear", align_corners=True))
        a, b = torch.split(y, y.shape[1] // 2, 1)
        c = self.conv.dw1(b)
        return self.conv.conv_out(torch.cat([a, b, c, self.conv.dw2(c)], dim=1))


class ReferenceSAM3UNet(nn.Module):
    """Under the authors' names, on our trunk, whose equality with transformers' has a test of its own."""

    def __init__(self):
        super().__init__()
        self.sam3_vit = SAM3Trunk("large", "rope")
        self.sam3_vit.blocks = nn.Sequential(*(PromptedBlock(block) for block in self.sam3_vit.blocks))
        for k in range(1, 5):
            setattr(self, f"reduce{k}", nn.Conv2d(64, 128, 1))
            setattr(self, f"up{k}", ReferenceStep(256 if k < 4 else 128))
        self.head = nn.Conv2d(128, 1, 1)

    def forward(self, x):
        height, width = x.shape[2:]
        last = self.sam3_vit(x)[-1]
        maps = [
            F.interpolate(getattr(self, f"reduce{k}")(last), size=(height // s, width // s), mode="bilinear")
            for k, s in ((1, 4), (2, 8), (3, 16), (4, 32))
        ]
        y = self.up4(maps[3])
        for k in (3, 2, 1):
            y = getattr(self, f"up{k}")(y, maps[k - 1])
        return F.interpolate(self.head(y), size=(height, width), mode="bilinear")


@pytest.fixture
def theirs(randomize, tmp_path):
    reference = randomize(ReferenceSAM3UNet()).eval()
    rotary = {"sam3_vit.blocks.0.block.attn.freqs_cis": torch.zeros(16, 8, dtype=torch.complex64)}
    torch.save({**reference.state_dict(), **rotary}, tmp_path / "theirs.pth")
    return reference, tmp_path / "theirs.pth"


@pytest.mark.parametrize("shape", [(1, 3, 336, 336), (2, 3, 112, 154), (1, 3, 42, 56)], ids=str)
def test_output_equals_the_plain_writing(shape, theirs, relative_error):
    reference, path = theirs
    net = SAM3UNet().eval()
    report = load_peer_checkpoint(net, path)
    assert report.unused == ("sam3_vit.blocks.0.block.attn.freqs_cis",)
    x = torch.randn(shape)
    with torch.no_grad():
        got, expected = net(x), reference(x)
    assert relative_error(got, expected) < 1e-5
    assert (got - expected).abs().max() < 1e-4


def test_other_options_than_the_authors_are_refused(theirs):
    with pytest.raises(CheckpointMismatchError, match="the net has adapter 'lora'"):
        load_peer_checkpoint(SAM3UNet(adapter="lora"), theirs[1])
    with pytest.raises(CheckpointMismatchError, match=r"head\.weight"):
        load_peer_checkpoint(SAM3UNet(out_channels=2), theirs[1])


@pytest.mark.parametrize("adapter", ["bottleneck", "hp", "none", "full"])
def test_any_size_channels_and_classes_and_what_is_trained(adapter, randomize):
    net = randomize(SAM3UNet(adapter=adapter, in_channels=2, out_channels=3)).train()
    out = net(torch.rand(2, 2, 33, 75))
    assert out.shape == (2, 3, 33, 75)
    out.square().mean().backward()
    for name, parameter in net.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.requires_grad == (adapter == "full" or name in net.added_state_names()), name
    assert type(net)(**net.config).state_dict().keys() == net.state_dict().keys()


def test_random_weights_must_be_asked_for():
    with pytest.raises(ValueError, match="no SAM 3 weights were given, and image_encoder would stay random"):
        prepare_base_weights(SAM3UNet(), None)
