# SPDX-License-Identifier: Apache-2.0
"""What a network costs: parameters, multiply-accumulate operations, time and memory."""

from __future__ import annotations

from .counting import count_macs
from .device_name import device_name
from .latency import latencies_in_turn
from .macs_count import MAC_KINDS, NOT_COUNTED, MacsCount
from .network_profile import NetworkProfile
from .peak_memory import measure_peak_memory
from .profiler import profile_network, profile_table

__all__ = [
    "MAC_KINDS",
    "NOT_COUNTED",
    "MacsCount",
    "NetworkProfile",
    "count_macs",
    "device_name",
    "latencies_in_turn",
    "measure_peak_memory",
    "profile_network",
    "profile_table",
]
