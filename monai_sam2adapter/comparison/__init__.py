# SPDX-License-Identifier: Apache-2.0
"""Methods side by side on data sets, over seeds, the choice of an adapter by measuring, and all folds of a data set."""

from __future__ import annotations

from .comparison import run_comparison
from .config import ComparisonConfig
from .folds import train_folds
from .grid import ComparisonCell
from .race import adapter_methods, choose_adapter

__all__ = ["ComparisonCell", "ComparisonConfig", "adapter_methods", "choose_adapter", "run_comparison", "train_folds"]
