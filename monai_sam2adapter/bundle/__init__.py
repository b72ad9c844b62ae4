# SPDX-License-Identifier: Apache-2.0
"""What bundles need besides MONAI's own commands: checking options, packing for download, publishing."""

from __future__ import annotations

from .check_options import check_options
from .options import OPTIONS, Rule
from .packing import PackedBundle, pack_bundle
from .publishing import PublishedBundle, publish_bundle

__all__ = ["OPTIONS", "PackedBundle", "PublishedBundle", "Rule", "check_options", "pack_bundle", "publish_bundle"]
