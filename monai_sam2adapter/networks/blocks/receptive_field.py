# SPDX-License-Identifier: Apache-2.0
"""The receptive-field block between SAM2-UNet's encoder and decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["ReceptiveFieldBlock"]


class ReceptiveFieldBlock(nn.Module):
    """
    Bring a map to few channels by branches of growing receptive field, joined and added to a projection of the input.

    Branch 0 is a 1 x 1 convolution. Branches of s = 3, 5 and 7 follow it by 1 x s, s x 1 and a 3 x 3 of dilation s. All
    convolutions are without bias and followed by BatchNorm; the only ReLU is at the end.

    The names of its parameters are those of SAM2-UNet's released files.

    Source: Liu et al., arXiv:1711.07767, in the form of Xiong et al., SAM2-UNet, arXiv:2408.08870.

    Args:
        in_channels: channels of the input.
        out_channels: channels of every branch and of the output. Defaults to 64.
    """

    def __init__(self, in_channels: int, out_channels: int = 64) -> None:
        super().__init__()
        self.branch0 = nn.Sequential(_ConvNorm(in_channels, out_channels, 1))
        self.branch1 = _branch(in_channels, out_channels, 3)
        self.branch2 = _branch(in_channels, out_channels, 5)
        self.branch3 = _branch(in_channels, out_channels, 7)
        self.conv_cat = _ConvNorm(4 * out_channels, out_channels, 3)
        self.conv_res = _ConvNorm(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: features, ``(B, C_in, H, W)``.

        Returns:
            features, ``(B, C_out, H, W)``.
        """
        branches = (self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x))
        return F.relu(self.conv_cat(torch.cat(branches, dim=1)) + self.conv_res(x))


class _ConvNorm(nn.Module):
    """A convolution that keeps the size, of odd kernels, and BatchNorm."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int], dilation: int = 1):
        super().__init__()
        sides = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
        # in numbers, not padding="same": TorchScript's exporter to ONNX writes that as a file that does not run
        padding = (dilation * (sides[0] // 2), dilation * (sides[1] // 2))
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x))


def _branch(in_channels: int, out_channels: int, size: int) -> nn.Sequential:
    return nn.Sequential(
        _ConvNorm(in_channels, out_channels, 1),
        _ConvNorm(out_channels, out_channels, (1, size)),
        _ConvNorm(out_channels, out_channels, (size, 1)),
        _ConvNorm(out_channels, out_channels, 3, dilation=size),
    )
