# SPDX-License-Identifier: Apache-2.0
"""Files and texts."""

from __future__ import annotations

from .files import atomic_path, read_json, write_json
from .flags import as_flag
from .options import require_bool
from .text import nearest_name

__all__ = ["as_flag", "atomic_path", "nearest_name", "read_json", "require_bool", "write_json"]
