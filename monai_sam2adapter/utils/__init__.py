# SPDX-License-Identifier: Apache-2.0
"""Files and texts."""

from __future__ import annotations

from .files import atomic_path, read_json, write_json
from .flags import require_flags
from .text import nearest_name

__all__ = ["atomic_path", "nearest_name", "read_json", "require_flags", "write_json"]
