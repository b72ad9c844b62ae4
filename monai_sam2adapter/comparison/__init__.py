# SPDX-License-Identifier: Apache-2.0
"""Methods side by side on data sets, over seeds."""

from __future__ import annotations

from .cell import ComparisonCell
from .comparison import run_comparison
from .config import ComparisonConfig

__all__ = ["ComparisonCell", "ComparisonConfig", "run_comparison"]
