# SPDX-License-Identifier: Apache-2.0
"""What a device is called."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

__all__ = ["device_name"]


def device_name(device: torch.device) -> str:
    """
    The name of the GPU or of the CPU's model.

    Args:
        device: of this machine.

    Returns:
        a name such as "NVIDIA H100 80GB HBM3".
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
