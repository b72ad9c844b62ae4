# SPDX-License-Identifier: Apache-2.0
"""
SAM2-UNet and SAM2-UNeXT written plainly a second time, from their papers and a description of the released code, on
sam2's own Hiera. Names are those of the authors' files. Slow where that is plainer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sam2.modeling.backbones.hieradet import Hiera
from torch import nn

from monai_sam2adapter.networks.nets import sam2_encoder_config

CHANNELS = {"tiny": (96, 192, 384, 768), "large": (144, 288, 576, 1152)}


class PromptedBlock(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.block = block
        self.prompt_learn = nn.Sequential(nn.Linear(block.dim, 32), nn.GELU(), nn.Linear(32, block.dim), nn.GELU())

    def forward(self, x):
        return self.block(x + self.prompt_learn(x))


def prompted_hiera(variant):
    hiera = Hiera(**sam2_encoder_config(variant)["trunk"])
    hiera.blocks = nn.Sequential(*(PromptedBlock(block) for block in hiera.blocks))
    return hiera


class ConvNorm(nn.Module):
    def __init__(self, *args, **kwargs):
        super().__init__()
        self.conv = nn.Conv2d(*args, bias=False, **kwargs)
        self.bn = nn.BatchNorm2d(self.conv.out_channels)

    def forward(self, x):
        return self.bn(self.conv(x))


class ReferenceRFB(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.branch0 = nn.Sequential(ConvNorm(channels, 64, 1))
        for k, s in ((1, 3), (2, 5), (3, 7)):
            branch = nn.Sequential(
                ConvNorm(channels, 64, 1),
                ConvNorm(64, 64, (1, s), padding=(0, s // 2)),
                ConvNorm(64, 64, (s, 1), padding=(s // 2, 0)),
                ConvNorm(64, 64, 3, padding=s, dilation=s),
            )
            setattr(self, f"branch{k}", branch)
        self.conv_cat = ConvNorm(256, 64, 3, padding=1)
        self.conv_res = ConvNorm(channels, 64, 1)

    def forward(self, x):
        joined = torch.cat([self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)], dim=1)
        return torch.relu(self.conv_cat(joined) + self.conv_res(x))


class ReferenceUp(nn.Module):
    """Holds the two convolutions under the authors' names."""

    def __init__(self, c_in, c_mid, c_out):
        super().__init__()
        self.conv = nn.Module()
        self.conv.double_conv = nn.Sequential(
            nn.Conv2d(c_in, c_mid, 3, padding=1, bias=False),
            nn.BatchNorm2d(c_mid),
            nn.ReLU(),
            nn.Conv2d(c_mid, c_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
        )

    def forward(self, x):
        return self.conv.double_conv(x)


def double(x):
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def enlarge(x, factor):
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class ReferenceSAM2UNet(nn.Module):
    """Returns (head, side1, side2)."""

    def __init__(self, variant="large"):
        super().__init__()
        self.encoder = prompted_hiera(variant)
        for k, channels in enumerate(CHANNELS[variant], start=1):
            setattr(self, f"rfb{k}", ReferenceRFB(channels))
            setattr(self, f"up{k}", ReferenceUp(128, 64, 64))  # up4 is never used
        self.side1, self.side2, self.head = nn.Conv2d(64, 1, 1), nn.Conv2d(64, 1, 1), nn.Conv2d(64, 1, 1)

    def forward(self, x):
        x1, x2, x3, x4 = self.encoder(x)
        r1, r2, r3, r4 = self.rfb1(x1), self.rfb2(x2), self.rfb3(x3), self.rfb4(x4)
        d1 = self.up1(self.join(r4, r3))
        d2 = self.up2(self.join(d1, r2))
        d3 = self.up3(self.join(d2, r1))
        return enlarge(self.head(d3), 4), enlarge(self.side1(d1), 16), enlarge(self.side2(d2), 8)

    @staticmethod
    def join(deep, skip):
        deep = double(deep)
        dy, dx = skip.shape[2] - deep.shape[2], skip.shape[3] - deep.shape[3]
        deep = F.pad(deep, (dx // 2, dx - dx // 2, dy // 2, dy - dy // 2))
        return torch.cat([skip, deep], dim=1)


class ReferenceSAM2UNeXT(nn.Module):
    def __init__(self, variant="large", dino_variant="large", dino_size=448):
        import timm  # SAM2-UNet does without

        super().__init__()
        self.sam = prompted_hiera(variant)
        self.dino = timm.create_model(
            f"vit_{dino_variant}_patch14_dinov2", pretrained=False, features_only=True, img_size=dino_size
        )
        self.dino_size = dino_size
        width = self.dino.feature_info.channels()[-1]
        for k, channels in enumerate(CHANNELS[variant], start=1):
            setattr(self, f"align{k}", nn.Conv2d(width, channels, 1))
            setattr(self, f"reduce{k}", nn.Conv2d(2 * channels, 128, 1))
            setattr(self, f"up{k}", ReferenceUp(256, 128, 128) if k < 4 else ReferenceUp(128, 64, 128))
        self.head = nn.Conv2d(128, 1, 1)

    def forward(self, x):
        small = F.interpolate(x, size=(self.dino_size, self.dino_size), mode="bilinear", align_corners=False)
        dino = self.dino(small)[-1]
        x1, x2, x3, x4 = (self.reduce(k, sam, dino) for k, sam in enumerate(self.sam(x), start=1))
        y = self.up4(double(x4))
        y = self.up3(double(torch.cat([y, x3], dim=1)))
        y = self.up2(double(torch.cat([y, x2], dim=1)))
        y = self.up1(double(torch.cat([y, x1], dim=1)))
        return enlarge(self.head(y), 2)

    def reduce(self, k, sam, dino):
        aligned = getattr(self, f"align{k}")(dino)
        aligned = F.interpolate(aligned, size=sam.shape[2:], mode="bilinear", align_corners=False)
        return getattr(self, f"reduce{k}")(torch.cat([sam, aligned], dim=1))
