# SPDX-License-Identifier: Apache-2.0
"""Modulated deformable convolution (v2) with two implementations of one meaning."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.utils import look_up_option, optional_import
from torch import nn

from .context import arange_like, is_autocast, is_tracing_or_exporting

__all__ = ["ModulatedDeformConv2d", "default_implementation", "modulated_deform_conv2d"]

IMPLEMENTATIONS = ("auto", "torchvision", "grid_sample")


def modulated_deform_conv2d(
    x: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    implementation: str = "auto",
) -> torch.Tensor:
    """
    Convolve at positions that move: each kernel tap reads ``x`` bilinearly at its own place plus an offset, times a
    mask.

    Positions outside of ``x`` read zero, and between the border pixels and the outside the value fades to zero, in both
    implementations. All tensors share one floating dtype; float32 or float64 is needed for exact positions, so autocast
    is off inside.

    Source: Zhu et al., "Deformable ConvNets v2", arXiv:1811.11168, section 3.2. Argument layout as in
    ``torchvision.ops.deform_conv2d`` with one offset group and one weight group.

    Args:
        x: features, ``(B, C, H, W)``.
        offset: per tap ``(dy, dx)`` in pixels of ``x``, ``(B, 2 * K, H_out, W_out)`` with ``K = kh * kw`` taps, row by
            row.
        mask: per tap factor, ``(B, K, H_out, W_out)``.
        weight: ``(C_out, C, kh, kw)``.
        bias: ``(C_out,)`` or None.
        stride: of the output grid, in pixels.
        padding: zeros around ``x``, in pixels.
        dilation: distance of neighboring taps, in pixels.
        implementation: "torchvision" (its compiled operator), "grid_sample" (PyTorch only) or "auto": see
            :func:`default_implementation`.

    Returns:
        ``(B, C_out, H_out, W_out)``.

    Raises:
        ValueError: when ``implementation`` is unknown, or when ``offset`` or ``mask`` does not fit the output grid.
        ImportError: when "torchvision" is asked for and cannot be imported.
    """
    look_up_option(implementation, IMPLEMENTATIONS)
    if is_autocast(x):
        with torch.autocast(x.device.type, enabled=False):
            return modulated_deform_conv2d(
                x, offset, mask, weight, bias, stride, padding, dilation, implementation=implementation
            )
    _check_shapes(x, offset, mask, weight, stride, padding, dilation)
    if implementation == "auto":
        implementation = default_implementation(x.device)
    if implementation == "torchvision":
        deform_conv2d = _torchvision_operator(required=True)
        return deform_conv2d(x, offset, weight, bias, stride, padding, dilation, mask)
    return _deform_conv2d_by_grid_sample(x, offset, mask, weight, bias, stride, padding, dilation)


def default_implementation(device: torch.device) -> str:
    """
    Name the implementation that "auto" takes on a device.

    On a CPU grid_sample is the faster one at the sizes of the adapters (measured: docs/performance.md). On CUDA the
    compiled operator avoids the K-fold copy of the features, so it is taken where torchvision can be imported. Other
    devices lack the operator. Under tracing and export it is grid_sample, which every exporter knows.
    """
    if device.type == "cuda" and not is_tracing_or_exporting() and _torchvision_operator(required=False) is not None:
        return "torchvision"
    return "grid_sample"


class ModulatedDeformConv2d(nn.Module):
    """
    A modulated deformable convolution that predicts its own offsets and masks from its input.

    Offsets and masks come from one zero-initialized convolution, so training starts from a plain convolution whose taps
    all have the mask ``sigmoid(0) = 0.5``. Everything inside runs in float32 (float64 for float64 input) also under
    autocast or in a half-precision model, since bfloat16 cannot hold a sampling position; the output has the input's
    dtype.

    Source: Zhu et al., "Deformable ConvNets v2", arXiv:1811.11168, section 3.2.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: side of the square kernel, in pixels. Defaults to 3.
        stride: of the output grid, in pixels. Defaults to 1.
        padding: zeros around the input, in pixels. Defaults to 1.
        dilation: distance of neighboring taps, in pixels. Defaults to 1.
        bias: whether to add a bias. Defaults to True.
        implementation: see :func:`modulated_deform_conv2d`. Defaults to "auto".

    Raises:
        ValueError: when ``implementation`` is unknown.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int = 1,
        dilation: int = 1,
        bias: bool = True,
        implementation: str = "auto",
    ) -> None:
        super().__init__()
        look_up_option(implementation, IMPLEMENTATIONS)
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.implementation = implementation
        # Holds weight and bias under the names, and with the initialization, of a plain convolution.
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=bias)
        self.offset_mask = nn.Conv2d(in_channels, 3 * kernel_size**2, kernel_size, stride, padding, dilation)
        nn.init.zeros_(self.offset_mask.weight)
        nn.init.zeros_(self.offset_mask.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: features, ``(B, C_in, H, W)``.

        Returns:
            ``(B, C_out, H_out, W_out)``, the grid of a plain convolution with the same settings, in the dtype of ``x``.
        """
        if is_autocast(x):
            with torch.autocast(x.device.type, enabled=False):
                return self._forward_in_full_precision(x)
        return self._forward_in_full_precision(x)

    def _forward_in_full_precision(self, x: torch.Tensor) -> torch.Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        features = x.to(dtype)
        geometry = (self.stride, self.padding, self.dilation)
        predictor, conv = self.offset_mask, self.conv
        predicted = F.conv2d(features, predictor.weight.to(dtype), _cast(predictor.bias, dtype), *geometry)
        taps = predicted.shape[1] // 3
        offset, mask = predicted[:, : 2 * taps], predicted[:, 2 * taps :].sigmoid()
        weight, bias = conv.weight.to(dtype), _cast(conv.bias, dtype)
        return modulated_deform_conv2d(
            features, offset, mask, weight, bias, *geometry, implementation=self.implementation
        ).to(x.dtype)


def _cast(tensor: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    return None if tensor is None else tensor.to(dtype)


def _torchvision_operator(required: bool):  # type: ignore[no-untyped-def]
    # Imported at first use: a torchvision that does not match torch fails at import, and the CPU path needs none.
    try:
        operator, found = optional_import("torchvision.ops", name="deform_conv2d")
    except RuntimeError:
        found = False
    if found:
        return operator
    if required:
        raise ImportError(
            "implementation 'torchvision' needs a torchvision that imports beside the installed torch "
            f"{torch.__version__}; install the matching torchvision or choose implementation 'grid_sample'."
        )
    return None


def _check_shapes(
    x: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor,
    weight: torch.Tensor,
    stride: int,
    padding: int,
    dilation: int,
) -> None:
    if is_tracing_or_exporting():  # sizes are symbols there, and were checked when the model was built
        return
    taps = weight.shape[2] * weight.shape[3]
    grid = [
        (size + 2 * padding - dilation * (k - 1) - 1) // stride + 1
        for size, k in zip(x.shape[2:], weight.shape[2:], strict=True)
    ]
    for name, tensor, channels in (("offset", offset, 2 * taps), ("mask", mask, taps)):
        expected = (x.shape[0], channels, *grid)
        if tuple(tensor.shape) != expected:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}; for input {tuple(x.shape)} and weight {tuple(weight.shape)} "
                f"it must be {expected}."
            )


def _deform_conv2d_by_grid_sample(
    x: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: int,
    padding: int,
    dilation: int,
) -> torch.Tensor:
    batch, channels, height, width = x.shape
    out_channels, _, kernel_height, kernel_width = weight.shape
    taps = kernel_height * kernel_width
    rows, columns = offset.shape[-2:]

    # Positions of every tap on the output grid, in pixels of x: (B, K, H_out, W_out).
    tap = arange_like(taps, offset)
    row = arange_like(rows, offset) * stride - padding
    column = arange_like(columns, offset) * stride - padding
    base_y = (tap // kernel_width * dilation)[:, None, None] + row[:, None]
    base_x = (tap % kernel_width * dilation)[:, None, None] + column
    moved = offset.reshape(batch, taps, 2, rows, columns)
    y, x_ = moved[:, :, 0] + base_y, moved[:, :, 1] + base_x

    # grid_sample wants (x, y) scaled so that pixel p of n lies at (2 p + 1) / n - 1.
    grid = torch.stack(((2 * x_ + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)
    # Samples are K times as large as x, so they are not brought into another order: neither that of channels-last
    # features, nor that of one product for all images.
    sampled = F.grid_sample(x.contiguous(), grid.reshape(batch, taps * rows, columns, 2), align_corners=False)
    sampled = sampled.reshape(batch, channels, taps, rows * columns) * mask.reshape(batch, 1, taps, rows * columns)
    samples = sampled.reshape(batch, channels * taps, rows * columns)
    kernels = weight.reshape(1, out_channels, channels * taps).expand(batch, -1, -1)
    out = torch.bmm(kernels, samples) if bias is None else torch.baddbmm(bias[:, None], kernels, samples)
    return out.reshape(batch, out_channels, rows, columns)
