# SPDX-License-Identifier: Apache-2.0
"""Small operations that know nothing of SAM 2."""

from __future__ import annotations

from .batched_mlp import BatchedMLP
from .context import arange_like, is_autocast, is_tracing_or_exporting
from .deform_conv import ModulatedDeformConv2d, default_implementation, modulated_deform_conv2d
from .recompute import recomputed
from .rep_conv import RepConv2d
from .rotary import apply_rotary, rotary_factors

__all__ = [
    "BatchedMLP",
    "ModulatedDeformConv2d",
    "RepConv2d",
    "apply_rotary",
    "arange_like",
    "default_implementation",
    "is_autocast",
    "is_tracing_or_exporting",
    "modulated_deform_conv2d",
    "recomputed",
    "rotary_factors",
]
