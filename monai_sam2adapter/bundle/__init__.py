# SPDX-License-Identifier: Apache-2.0
"""What bundles need besides MONAI's own commands: checking options, packing, publishing, exporting."""

from __future__ import annotations

from .check_options import check_options
from .export import ExportedBundle, export_bundle
from .options import OPTIONS, Rule
from .packing import PackedBundle, pack_bundle
from .publishing import PublishedBundle, publish_bundle

__all__ = [
    "OPTIONS",
    "ExportedBundle",
    "PackedBundle",
    "PublishedBundle",
    "Rule",
    "check_options",
    "export_bundle",
    "pack_bundle",
    "publish_bundle",
]
