# SPDX-License-Identifier: Apache-2.0
"""Adapter methods, one per file, and their injection into a network."""

from __future__ import annotations

from .adaptformer import AdaptFormer
from .base import Adapter, AdapterConfig
from .bottleneck import BottleneckAdapter
from .hp import HPAdapter
from .injection import InjectionReport, NoMatchingModuleError, inject_adapters, remove_adapters
from .lw import LWAdapter
from .registry import adapter_names, get_adapter_class, register_adapter
from .sm_adaptformer import SMAdaptFormer

__all__ = [
    "AdaptFormer",
    "Adapter",
    "AdapterConfig",
    "BottleneckAdapter",
    "HPAdapter",
    "InjectionReport",
    "LWAdapter",
    "NoMatchingModuleError",
    "SMAdaptFormer",
    "adapter_names",
    "get_adapter_class",
    "inject_adapters",
    "register_adapter",
    "remove_adapters",
]
