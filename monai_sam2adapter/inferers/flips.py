# SPDX-License-Identifier: Apache-2.0
"""Test-time augmentation by flips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch

from ..utils import class_probabilities, logits_of

__all__ = ["average_flips", "mean_of_views", "sorted_flips"]


def sorted_flips(flips: Any) -> list[tuple[int, ...]]:
    """
    Args:
        flips: a list of spatial axes, 0 to 2, for each mirror image, such as ``[[0], [1], [0, 1]]``.

    Returns:
        the axes of each, in their order.

    Raises:
        ValueError: when ``flips`` is no list of lists of different axes, or holds a mirror image twice.
    """
    if not isinstance(flips, (list, tuple)) or not all(_are_axes(flip) for flip in flips):
        raise ValueError(f"flips must be lists of spatial axes in a list, as [[0], [1], [0, 1]], got {flips!r}.")
    axes = [tuple(sorted(flip)) for flip in flips]
    if len(set(axes)) < len(axes):
        raise ValueError(f"flips has a mirror image twice: {flips}; name each once.")
    return axes


def average_flips(
    predict: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    flips: Sequence[Sequence[int]],
    mirror: Callable[[torch.Tensor], torch.Tensor],
    overlapping: bool = False,
) -> torch.Tensor:
    """
    Average the class probabilities of images and of their mirror images.

    The result is logits again, of the averaged probabilities: their softmax (sigmoid for one channel, and for
    classes that overlap) gives these. What comes after it need not know how many runs there were.

    Args:
        predict: logits of images, ``(N, C, H, W)`` to ``(N, K, H, W)``.
        images: the images, ``(N, C, H, W)``.
        flips: for each mirror image the sides to mirror: 0 for rows, 1 for columns, 2 for what ``mirror`` does.
        mirror: turns the images along an axis of their own, which logits do not have.
        overlapping: whether a pixel may have several classes. Defaults to False.

    Returns:
        logits, ``(N, K, H, W)``, float32; those of the images themselves where there are no flips.
    """

    def views() -> Iterator[torch.Tensor]:
        yield predict(images)
        for flip in flips:
            dims = [2 + side for side in flip if side < 2]
            yield torch.flip(predict(torch.flip(mirror(images) if 2 in flip else images, dims)), dims)

    return mean_of_views(views(), 1 + len(flips), overlapping)


def mean_of_views(views: Iterable[torch.Tensor], count: int, overlapping: bool = False) -> torch.Tensor:
    """
    Args:
        views: logits of an image and of its mirror images, mirrored back, ``(N, K, H, W)`` each.
        count: how many there are.
        overlapping: whether a pixel may have several classes. Defaults to False.

    Returns:
        logits whose probabilities are the mean of theirs, float32; a single view's as they are.
    """
    if count == 1:
        (logits,) = views
        return logits
    total = torch.zeros(())
    for logits in views:
        total = class_probabilities(logits, 1, overlapping).add_(total)
    return logits_of(total.div_(count), 1, overlapping)


def _are_axes(flip: Any) -> bool:
    if not isinstance(flip, (list, tuple)) or not flip:
        return False
    return len(set(flip)) == len(flip) and all(axis in (0, 1, 2) for axis in flip)
