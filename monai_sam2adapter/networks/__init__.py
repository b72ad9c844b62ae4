# SPDX-License-Identifier: Apache-2.0
"""Networks: layers, blocks, adapters, nets and their weights."""

from __future__ import annotations

from . import adapters, blocks, layers, nets, utils, weights

__all__ = ["adapters", "blocks", "layers", "nets", "utils", "weights"]
