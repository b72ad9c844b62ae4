# SPDX-License-Identifier: Apache-2.0
"""``adapter: auto``: method, width and stages of the adapters, chosen from the labels and a budget of MACs."""

from __future__ import annotations

from .choice import AdapterChoice
from .costs import AdapterCosts
from .rule import (
    LONG_BOUNDARY,
    MANY_CLASSES,
    SMALL_STRUCTURE,
    WIDTHS,
    check_macs_budget,
    choose_adapter,
    find_fine_structures,
)
from .stored import ADAPTER_CHOICE_FILE, AUTO_ADAPTER, prepare_adapter_choice, read_adapter_choice

__all__ = [
    "ADAPTER_CHOICE_FILE",
    "AUTO_ADAPTER",
    "LONG_BOUNDARY",
    "MANY_CLASSES",
    "SMALL_STRUCTURE",
    "WIDTHS",
    "AdapterChoice",
    "AdapterCosts",
    "check_macs_budget",
    "choose_adapter",
    "find_fine_structures",
    "prepare_adapter_choice",
    "read_adapter_choice",
]
