# SPDX-License-Identifier: Apache-2.0
"""Adapter methods, one per file, and their injection into a network."""

from __future__ import annotations

from .adaptformer import AdaptFormer
from .attention import AttentionAdapter
from .base import Adapter, AdapterConfig
from .bottleneck import BottleneckAdapter, BottleneckConfig
from .conv_lora import ConvLoRAAdapter, ConvLoRAConfig
from .hp import HPAdapter
from .injection import (
    InjectionReport,
    NoMatchingModuleError,
    inject_adapters,
    merge_adapters,
    remove_adapters,
    resolve_settings,
    unmerge_adapters,
)
from .lora import LoRAAdapter, LoRAConfig
from .lw import LWAdapter
from .mlp import MLPAdapter
from .registry import adapter_names, get_adapter_class, register_adapter
from .sm_adaptformer import SMAdaptFormer

__all__ = [
    "AdaptFormer",
    "Adapter",
    "AdapterConfig",
    "AttentionAdapter",
    "BottleneckAdapter",
    "BottleneckConfig",
    "ConvLoRAAdapter",
    "ConvLoRAConfig",
    "HPAdapter",
    "InjectionReport",
    "LWAdapter",
    "LoRAAdapter",
    "LoRAConfig",
    "MLPAdapter",
    "NoMatchingModuleError",
    "SMAdaptFormer",
    "adapter_names",
    "get_adapter_class",
    "inject_adapters",
    "merge_adapters",
    "register_adapter",
    "remove_adapters",
    "resolve_settings",
    "unmerge_adapters",
]
