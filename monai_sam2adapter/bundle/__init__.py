# SPDX-License-Identifier: Apache-2.0
"""What bundles need besides MONAI's own commands: packing them for download."""

from __future__ import annotations

from .packing import PackedBundle, pack_bundle

__all__ = ["PackedBundle", "pack_bundle"]
