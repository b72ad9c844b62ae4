# SPDX-License-Identifier: Apache-2.0
"""Networks: layers, blocks, adapters, nets, their weights and what they cost."""

from __future__ import annotations

from . import adapters, blocks, compiling, layers, nets, profiling, utils, weights

__all__ = ["adapters", "blocks", "compiling", "layers", "nets", "profiling", "utils", "weights"]
