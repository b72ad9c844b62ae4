# SPDX-License-Identifier: Apache-2.0
"""What a network costs at one input shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .macs_count import MacsCount

__all__ = ["NetworkProfile"]


@dataclass(frozen=True)
class NetworkProfile:
    """
    Parameters, operations, time and memory of a network at one input shape, in eval mode.

    Args:
        input_shape: of the input, with the batch.
        device: where it ran, "cpu" or "cuda:0".
        trained_parameters: parameters that get gradients, by part.
        total_parameters: all parameters, by part.
        macs: multiply-accumulate operations of a forward pass.
        latency: median seconds of a forward pass.
        peak_memory: bytes, see :func:`~monai_sam2adapter.networks.profiling.measure_peak_memory`.
    """

    input_shape: tuple[int, ...]
    device: str
    trained_parameters: dict[str, int]
    total_parameters: dict[str, int]
    macs: MacsCount
    latency: float
    peak_memory: int

    def to_dict(self) -> dict[str, Any]:
        """The profile as JSON can hold it."""
        return {
            "input_shape": list(self.input_shape),
            "device": self.device,
            "trained_parameters": {"total": sum(self.trained_parameters.values()), "by_part": self.trained_parameters},
            "total_parameters": {"total": sum(self.total_parameters.values()), "by_part": self.total_parameters},
            "macs": self.macs.to_dict(),
            "latency_seconds": self.latency,
            "peak_memory_bytes": self.peak_memory,
        }
