# SPDX-License-Identifier: Apache-2.0
"""A convolution with parallel branches in training that becomes a single convolution for inference."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["RepConv2d"]


class _ConvNorm(nn.Module):
    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))


class RepConv2d(nn.Module):
    """
    Structural re-parameterization: k x k, 1 x 1 and identity branches, each with BatchNorm, that fuse to one
    convolution.

    The identity branch exists where input and output have the same shape. With ``groups=in_channels`` the layer is the
    depthwise block of the LW-Adapter.

    Source: Ding et al., "RepVGG", arXiv:2101.03697, section 3.3 (equations 3 and 4); used by arXiv:2605.05979.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: odd side of the largest kernel, in pixels. Defaults to 3.
        stride: in pixels. Defaults to 1.
        groups: groups of all branches. Defaults to 1.
        fused: build the single convolution at once, to load weights that were saved after fusing. Defaults to False.

    Raises:
        ValueError: when ``kernel_size`` is even or below 3.
    """

    branch_kxk: _ConvNorm
    branch_1x1: _ConvNorm
    branch_identity: nn.BatchNorm2d
    conv: nn.Conv2d

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        groups: int = 1,
        fused: bool = False,
    ) -> None:
        super().__init__()
        if kernel_size < 3 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and at least 3, got {kernel_size}.")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.groups = kernel_size, stride, groups
        if fused:
            self.conv = self._plain_conv(kernel_size, bias=True)
            return
        self.branch_kxk = _ConvNorm(self._plain_conv(kernel_size))
        self.branch_1x1 = _ConvNorm(self._plain_conv(1))
        if in_channels == out_channels and stride == 1:
            self.branch_identity = nn.BatchNorm2d(out_channels)

    @property
    def fused(self) -> bool:
        """Whether the layer is the single convolution."""
        return hasattr(self, "conv")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: features, ``(B, C_in, H, W)``.

        Returns:
            ``(B, C_out, ceil(H / stride), ceil(W / stride))``.
        """
        if self.fused:
            return self.conv(x)
        out = self.branch_kxk(x) + self.branch_1x1(x)
        return out + self.branch_identity(x) if hasattr(self, "branch_identity") else out

    @torch.no_grad()
    def reparameterize(self) -> None:
        """
        Replace the branches by one convolution with the same output in eval mode. Harmless when already done.

        Raises:
            RuntimeError: in training mode, where BatchNorm uses batch statistics that no fixed convolution can equal.
        """
        if self.fused:
            return
        if any(module.training for module in self.modules()):
            raise RuntimeError("RepConv2d can be fused in eval mode only; call .eval() on the network first.")
        reference = self.branch_kxk.conv.weight
        conv = self._plain_conv(self.kernel_size, bias=True).to(reference)
        if not reference.is_meta:  # where there are shapes only
            kernels, biases = zip(*self._branch_kernels(), strict=True)
            conv.weight.copy_(sum(kernels))
            conv.bias.copy_(sum(biases))  # type: ignore[union-attr]
        self.conv = conv.requires_grad_(reference.requires_grad).eval()
        for name in ("branch_kxk", "branch_1x1", "branch_identity"):
            if hasattr(self, name):
                delattr(self, name)

    def _plain_conv(self, kernel_size: int, bias: bool = False) -> nn.Conv2d:
        """Build a convolution that keeps the layer's grid; the only place that knows the padding."""
        return nn.Conv2d(
            self.in_channels,
            self.out_channels,
            kernel_size,
            self.stride,
            padding=kernel_size // 2,
            groups=self.groups,
            bias=bias,
        )

    def _branch_kernels(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The k x k kernel and the bias of each branch, in float64 so that the sum adds no rounding of its own."""
        folded = [self._fold(branch.conv.weight, branch.norm) for branch in (self.branch_kxk, self.branch_1x1)]
        if hasattr(self, "branch_identity"):
            channels = torch.arange(self.out_channels)
            identity = torch.zeros_like(self.branch_1x1.conv.weight)
            identity[channels, channels % (self.in_channels // self.groups)] = 1
            folded.append(self._fold(identity, self.branch_identity))
        return folded

    def _fold(self, kernel: torch.Tensor, norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
        # On the CPU: not every device has float64.
        pad = (self.kernel_size - kernel.shape[-1]) // 2
        kernel = F.pad(kernel.cpu().double(), [pad] * 4)
        weight, bias, mean, var = (
            tensor.cpu().double()  # type: ignore[union-attr]
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
        )
        factor = weight / (var + norm.eps).sqrt()
        return kernel * factor[:, None, None, None], bias - mean * factor
