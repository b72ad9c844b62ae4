# SPDX-License-Identifier: Apache-2.0
"""Parts that networks are built of."""

from __future__ import annotations

from .hiera_block import HieraBlock
from .positional_encoding import PositionalEncodingGenerator

__all__ = ["HieraBlock", "PositionalEncodingGenerator"]
