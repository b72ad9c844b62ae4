# SPDX-License-Identifier: Apache-2.0
"""Transforms that MONAI lacks."""

from __future__ import annotations

from .name_by_cased import NameByCased
from .require_finited import RequireFinited

__all__ = ["NameByCased", "RequireFinited"]
