# SPDX-License-Identifier: Apache-2.0
"""In what context a forward pass runs, and what depends on it."""

from __future__ import annotations

import torch

__all__ = ["arange_like", "is_autocast", "is_tracing_or_exporting"]


def arange_like(size: int, x: torch.Tensor) -> torch.Tensor:
    """
    The numbers from 0 to ``size - 1`` in the dtype and on the device of ``x``.

    A trace keeps a device that it is given: recorded on a CPU, it would make these numbers there on a GPU, too. It
    therefore asks ``x`` when it runs.
    """
    if torch.jit.is_tracing():
        return torch.arange(size).type_as(x)
    return torch.arange(size, dtype=x.dtype, device=x.device)


def is_autocast(x: torch.Tensor) -> bool:
    """Whether autocast is on for the device of a tensor; on the meta device, which has none, it never is."""
    return not x.is_meta and torch.is_autocast_enabled(x.device.type)


def is_tracing_or_exporting() -> bool:
    """
    Whether a forward pass is being recorded by ``torch.jit.trace``, ``torch.onnx.export`` or ``torch.export``.

    A recorded pass must not branch on the sizes of its example input, else the exported file serves that size only.
    """
    return torch.jit.is_tracing() or torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()
