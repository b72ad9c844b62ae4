# SPDX-License-Identifier: Apache-2.0
"""How many multiply-accumulate operations PyTorch's operators take, from the shapes of their tensors."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from torch import Tensor

__all__ = ["MAC_RULES", "attention_macs", "may_hold_products"]

#: From the arguments and the first output of an operator to its MACs.
MacRule = Callable[[tuple[Any, ...], Any], int]


def attention_macs(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> int:
    """
    MACs of the two products of ``scaled_dot_product_attention``. With a mask, also a causal one, all pairs count.

    Args:
        query: ``(..., L, E)``.
        key: ``(..., S, E)``.
        value: ``(..., S, E_v)``.
        args: all others, which do not matter.
        kwargs: likewise.
    """
    return query[..., 0].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def may_hold_products(namespace: str, name: str) -> bool:
    """
    Whether an operator without a rule may multiply and add: one that is not PyTorch's own, or whose name says so.

    Args:
        namespace: "aten" and the like.
        name: of the operator, without its overload.
    """
    return namespace not in _ELEMENTARY_NAMESPACES or _NAMES_OF_PRODUCTS.search(name) is not None


_ELEMENTARY_NAMESPACES = ("aten", "prim", "prims", "profiler")
_NAMES_OF_PRODUCTS = re.compile(
    r"(^|_|b|add)mm(_|$)|matmul|linear|conv(?!ert)|attention|transformer|rnn|lstm|gru|cdist|fft|"
    r"sampler|upsample|linalg_(?!vector_norm|cross|diagonal)"
)


def _product(left: Tensor, right: Tensor) -> int:
    """Each value of ``(..., N, M)``, or of a vector, meets one row of ``(..., M, P)``, or one value."""
    return left.numel() * (right.shape[-1] if right.ndim > 1 else 1)


def _linear(args: tuple[Any, ...], out: Any) -> int:
    features, weight = args[:2]  # (..., M) and (P, M) or (M,)
    return features.numel() * (weight.shape[0] if weight.ndim > 1 else 1)


def _convolution(args: tuple[Any, ...], out: Any, transposed: bool | None = None) -> int:
    """All weights meet every position of the output; in a transposed convolution, of the input."""
    features, weight = args[:2]
    if transposed is None:
        transposed = args[6]
    positions = (features if transposed else out).shape
    return positions[0] * math.prod(positions[2:]) * weight.numel()


def _deformable_convolution(args: tuple[Any, ...], out: Tensor) -> int:
    """The product with the weights, and what it takes to read the values at each tap of each output position."""
    features, weight = args[:2]
    positions = out.shape[0] * math.prod(out.shape[2:])
    sampled = positions * features.shape[1] * math.prod(weight.shape[2:])
    return positions * weight.numel() + _BILINEAR * sampled


def _grid_sample(args: tuple[Any, ...], out: Tensor) -> int:
    interpolation_mode, dimensions = args[2], out.ndim - 2
    taps = (2**dimensions, 0, 4**dimensions)[interpolation_mode]  # linear, nearest, cubic
    return taps * out.numel()


def _resize(taps: int) -> MacRule:
    return lambda args, out: taps * out.numel()


# values that are weighted for one output value
_LINEAR, _BILINEAR, _TRILINEAR, _BICUBIC = 2, 4, 8, 16
_NEAREST = [f"{name}{n}d" for name in ("upsample_nearest", "_upsample_nearest_exact") for n in (1, 2, 3)]

#: Kind and rule by name of the operator. Below the names that Python sees there are others, of single backends.
MAC_RULES: dict[str, tuple[str, MacRule]] = {
    **dict.fromkeys(
        ("aten::mm", "aten::bmm", "aten::mv", "aten::dot", "aten::vdot", "aten::_int_mm", "aten::_scaled_mm"),
        ("linear", lambda args, out: _product(args[0], args[1])),
    ),
    **dict.fromkeys(
        ("aten::addmm", "aten::baddbmm", "aten::addbmm", "aten::addmv", "aten::_addmm_activation"),
        ("linear", lambda args, out: _product(args[1], args[2])),
    ),
    **dict.fromkeys(("aten::linear", "aten::mkldnn_linear"), ("linear", _linear)),
    **dict.fromkeys(
        ("aten::convolution", "aten::_convolution", "aten::convolution_overrideable"), ("convolution", _convolution)
    ),
    **dict.fromkeys(
        (
            "aten::mkldnn_convolution",
            "aten::cudnn_convolution",
            "aten::cudnn_convolution_relu",
            "aten::cudnn_convolution_add_relu",
        ),
        ("convolution", lambda args, out: _convolution(args, out, transposed=False)),
    ),
    "aten::cudnn_convolution_transpose": (
        "convolution",
        lambda args, out: _convolution(args, out, transposed=True),
    ),
    **dict.fromkeys(
        (
            "aten::scaled_dot_product_attention",
            "aten::_scaled_dot_product_attention_math",
            "aten::_scaled_dot_product_attention_math_for_mps",
            "aten::_scaled_dot_product_flash_attention",
            "aten::_scaled_dot_product_flash_attention_for_cpu",
            "aten::_scaled_dot_product_efficient_attention",
            "aten::_scaled_dot_product_cudnn_attention",
            "aten::_scaled_dot_product_fused_attention_overrideable",
        ),
        ("attention", lambda args, out: attention_macs(*args)),
    ),
    "torchvision::deform_conv2d": ("deformable convolution", _deformable_convolution),
    "aten::upsample_linear1d": ("resampling", _resize(_LINEAR)),
    "aten::upsample_bilinear2d": ("resampling", _resize(_BILINEAR)),
    "aten::upsample_trilinear3d": ("resampling", _resize(_TRILINEAR)),
    "aten::upsample_bicubic2d": ("resampling", _resize(_BICUBIC)),
    **dict.fromkeys((f"aten::{name}" for name in _NEAREST), ("resampling", _resize(0))),
    **dict.fromkeys(("aten::grid_sampler_2d", "aten::grid_sampler_3d"), ("resampling", _grid_sample)),
    "aten::cudnn_grid_sampler": ("resampling", _resize(_BILINEAR)),
}
