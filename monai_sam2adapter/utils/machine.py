# SPDX-License-Identifier: Apache-2.0
"""What a program runs on."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["device_name", "num_cores"]


def device_name(device: torch.device) -> str:
    """The name of the GPU or of the CPU's model, such as "NVIDIA H100 80GB HBM3"."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:  # not Linux
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def num_cores() -> int:
    """The cores that this process may use, where the system tells, else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
