# SPDX-License-Identifier: Apache-2.0
"""Windows of pictures too large for the memory: one row of windows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from monai.data.utils import compute_importance_map, dense_patch_slices

from .ensembles import average_members
from .flips import mean_of_views
from .resize_inferer import ResizeInferer

__all__ = ["predict_in_bands"]

_SIGMA = 0.125  # of the Gaussian in parts of a window, as in MONAI's SlidingWindowInferer


def predict_in_bands(
    inferer: ResizeInferer,
    read: Callable[[int, int], torch.Tensor],
    size: tuple[int, int],
    networks: Any,
) -> Iterator[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """
    What ``inferer`` gives of a picture, part by part, with windows where it has them on the whole picture.

    A band is a row of windows side by side; it is as high as a window. The second axis of the picture runs from band
    to band. Logits exist for one band, for each network and mirror image: those of two bands are added with their
    weights where they overlap, and handed on where no other band follows. Mirror images along the second axis are those
    of bands: where the last windows lie is not mirrored.

    Args:
        inferer: with a ``tile``.
        read: the picture from a number along the second axis on to in front of another, ``(1, C, W, stop - start)``,
            on the device of the networks.
        size: width and height, ``(W, H)``, of the picture.
        networks: as of the inferer.

    Yields:
        each part of the picture, ``(1, C, W, h)``, with what the inferer's postprocessing makes of its logits, in the
        order of the second axis, without a gap.

    Raises:
        ValueError: when the inferer has no ``tile``, and what it raises.
    """
    if inferer.tile is None:
        raise ValueError("a picture is segmented in parts by windows alone; give their size, as tile=512.")
    members = networks if isinstance(networks, (Sequence, torch.nn.ModuleList)) else [networks]
    views = [(member, flip) for member in members for flip in ((), *inferer.flips)]
    height = min(inferer.tile[1], size[1])
    starts = _starts(size[1], inferer.tile[1], inferer.overlap)
    weights: list[torch.Tensor] = []  # of the windows of a band, for each view; below what was added up
    sums: list[torch.Tensor] = []
    totals: list[torch.Tensor] = []
    for start, following in zip(starts, [*starts[1:], size[1]], strict=True):
        band = read(start, start + height)
        if start == 0:
            plain = _weights(inferer, size, height).to(band.device)
            weights = [_mirrored(plain, flip) for _, flip in views]
            totals = [torch.zeros_like(plain) for _ in views]
        for number, (member, flip) in enumerate(views):
            logits = _mirrored(inferer._predict_once(_mirrored(band, flip), member), flip)
            if start == 0:
                sums.append(torch.zeros_like(logits))
            sums[number].addcmul_(logits, weights[number])
            totals[number] += weights[number]
        done = following - start
        logits_of_views = [part[..., :done] / total[..., :done] for part, total in zip(sums, totals, strict=True)]
        yield band[..., :done], inferer._finish(_averaged(inferer, logits_of_views, len(members)), band)
        for part in (*sums, *totals):
            _move_on(part, done)


def _averaged(inferer: ResizeInferer, logits: list[torch.Tensor], num_members: int) -> dict[str, torch.Tensor]:
    """The mean over mirror images and networks, as of ``ResizeInferer``."""
    count = len(logits) // num_members
    of_members = [logits[first : first + count] for first in range(0, len(logits), count)]
    wants_spread = getattr(inferer.postprocessing, "uncertainty", False)
    overlapping = inferer.overlapping
    members = [partial(mean_of_views, views, count, overlapping) for views in of_members]
    return average_members(members, wants_spread, overlapping)


def _mirrored(images: torch.Tensor, flip: Sequence[int]) -> torch.Tensor:
    return images.flip([side - 2 for side in flip]) if flip else images


def _move_on(values: torch.Tensor, by: int) -> None:
    """Leave the rest of the band, with zeros behind it."""
    rest = values.shape[-1] - by
    values[..., :rest] = values[..., by:].clone()
    values[..., rest:] = 0


def _starts(length: int, window: int, overlap: float) -> list[int]:
    """Where windows start along an axis, as in MONAI's ``sliding_window_inference``."""
    step = window if length <= window else max(int(window * (1 - overlap)), 1)
    return [place.start for (place,) in dense_patch_slices((max(length, window),), (window,), (step,))]


def _weights(inferer: ResizeInferer, size: tuple[int, int], height: int) -> torch.Tensor:
    """The sum of the weights of a band's windows at each pixel, ``(W, height)``."""
    window = inferer.tile or size
    one = compute_importance_map(window, mode="gaussian", sigma_scale=_SIGMA, device="cpu", dtype=torch.float32)
    weights = torch.zeros(max(size[0], window[0]), window[1])
    for start in _starts(size[0], window[0], inferer.overlap):
        weights[start : start + window[0]] += one
    # what is smaller than a window lies in its middle
    left, top = ((side - length) // 2 for side, length in zip(weights.shape, (size[0], height), strict=True))
    return weights[left : left + size[0], top : top + height]
