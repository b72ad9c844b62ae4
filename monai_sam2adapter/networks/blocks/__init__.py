# SPDX-License-Identifier: Apache-2.0
"""Parts that networks are built of."""

from __future__ import annotations

from .adapted_block import AdaptedBlock
from .bilinear_up import BilinearUpBlock
from .detail_refinement import DetailRefinement
from .double_conv import DoubleConv
from .feature_pyramid import SimpleFeaturePyramid
from .hiera_block import HieraBlock, pads_windows
from .light_up import LightUpBlock
from .positional_encoding import PositionalEncodingGenerator
from .receptive_field import ReceptiveFieldBlock
from .rotary_block import RotaryBlock

__all__ = [
    "AdaptedBlock",
    "BilinearUpBlock",
    "DetailRefinement",
    "DoubleConv",
    "HieraBlock",
    "LightUpBlock",
    "PositionalEncodingGenerator",
    "ReceptiveFieldBlock",
    "RotaryBlock",
    "SimpleFeaturePyramid",
    "pads_windows",
]
