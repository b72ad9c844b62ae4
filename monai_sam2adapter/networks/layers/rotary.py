# SPDX-License-Identifier: Apache-2.0
"""Rotary position embeddings in two dimensions, for token maps of any size."""

from __future__ import annotations

import torch

__all__ = ["apply_rotary", "rotary_factors"]


def rotary_factors(
    first: torch.Tensor, second: torch.Tensor, frequencies: torch.Tensor, interleaved: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The factors that turn the queries and keys of each position of a map.

    Half of a head's channels are turned by the first coordinate, the others by the second.

    Source: Su et al., "RoFormer", arXiv:2104.09864; axial in two dimensions as in arXiv:2403.13298.

    Args:
        first: a coordinate of each position, ``(N,)``.
        second: the other one, ``(N,)``.
        frequencies: radians for a step of a coordinate, ``(D / 4,)`` for heads of ``D`` channels.
        interleaved: whether the two channels that are turned together are neighbors, else ``D / 2`` apart.

    Returns:
        cosines and sines, ``(N, D)`` each.
    """
    angles = torch.cat((first[:, None] * frequencies, second[:, None] * frequencies), dim=1)  # (N, D / 2)
    angles = angles.repeat_interleave(2, dim=1) if interleaved else torch.cat((angles, angles), dim=1)
    return angles.cos(), angles.sin()


def apply_rotary(x: torch.Tensor, factors: tuple[torch.Tensor, torch.Tensor], interleaved: bool) -> torch.Tensor:
    """
    Turn queries or keys by their positions.

    Args:
        x: queries or keys, ``(..., N, D)``.
        factors: as :func:`rotary_factors` gives them; their precision is that of the products.
        interleaved: as there.

    Returns:
        turned ones, in the dtype of ``x``.
    """
    cosines, sines = factors
    if interleaved:
        even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
        turned = torch.stack((-odd, even), dim=-1).flatten(-2)
    else:
        left, right = x.chunk(2, dim=-1)
        turned = torch.cat((-right, left), dim=-1)
    return (x * cosines + turned * sines).to(x.dtype)
