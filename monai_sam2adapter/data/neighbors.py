# SPDX-License-Identifier: Apache-2.0
"""Slices with their neighbors as channels (2.5D), the same way in training and in inference."""

from __future__ import annotations

import torch

__all__ = ["slices_with_neighbors"]


def slices_with_neighbors(slices: torch.Tensor, start: int, stop: int, num_neighbors: int = 0) -> torch.Tensor:
    """
    Take slices out of a volume, each with the ones before and behind it as channels.

    Channels are in the order of the slices, from the first neighbor before to the last one behind; where a slice has
    several channels, they stay together. The first and the last slice of the volume stand in for neighbors beyond it.

    Args:
        slices: all slices of a volume, ``(S, C, h, w)``.
        start: first slice to take, from 0.
        stop: slice to stop in front of, ``start < stop <= S``.
        num_neighbors: neighbors on each side, k. Defaults to 0.

    Returns:
        a copy, ``(stop - start, (2k + 1) * C, h, w)``.
    """
    offsets = torch.arange(-num_neighbors, num_neighbors + 1, device=slices.device)
    middle = torch.arange(start, stop, device=slices.device)
    numbers = (middle[:, None] + offsets).clamp(0, len(slices) - 1)
    return slices[numbers].flatten(1, 2)  # (N, 2k + 1, C, h, w) -> (N, (2k + 1) * C, h, w)
