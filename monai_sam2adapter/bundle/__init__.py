# SPDX-License-Identifier: Apache-2.0
"""What bundles need besides MONAI's own commands: checking their options, packing them for download."""

from __future__ import annotations

from .check_options import check_options
from .options import OPTIONS, Rule
from .packing import PackedBundle, pack_bundle

__all__ = ["OPTIONS", "PackedBundle", "Rule", "check_options", "pack_bundle"]
