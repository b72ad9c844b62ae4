# SPDX-License-Identifier: Apache-2.0
"""Class probabilities of logits, and back: by softmax, or by sigmoid where one channel or each is a class by itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["class_probabilities", "entropy_of", "logits_of"]

_LEAST = 1e-7  # probability, so that its logarithm is finite


def class_probabilities(logits: torch.Tensor, dim: int, overlapping: bool = False) -> torch.Tensor:
    """
    Args:
        logits: any shape, with the channels along ``dim``.
        dim: axis of the channels.
        overlapping: whether a pixel may have several classes. Defaults to False.

    Returns:
        softmax over the channels, or sigmoid of each that may overlap and of a single one, of the same shape, float32;
        NaN where a logit is infinite, of which a mean with others would show nothing.
    """
    logits = logits.float()
    probabilities = logits.sigmoid() if overlapping or logits.shape[dim] == 1 else logits.softmax(dim)
    return probabilities.add_(logits - logits)  # 0, or NaN


def logits_of(probabilities: torch.Tensor, dim: int, overlapping: bool = False) -> torch.Tensor:
    """
    The inverse of :func:`class_probabilities`, in place.

    Args:
        probabilities: of classes, with the channels along ``dim``; changed.
        dim: axis of the channels.
        overlapping: whether a pixel may have several classes. Defaults to False.

    Returns:
        the same tensor, finite logits whose probabilities these are, to 1e-7.
    """
    if overlapping or probabilities.shape[dim] == 1:
        return probabilities.logit_(eps=_LEAST)
    return probabilities.clamp_(min=_LEAST).log_()


def entropy_of(probabilities: torch.Tensor, dim: int, overlapping: bool = False) -> torch.Tensor:
    """
    Args:
        probabilities: of classes, with the channels along ``dim``.
        dim: axis of the channels.
        overlapping: whether a pixel may have several classes. Defaults to False.

    Returns:
        their entropy, divided by that of equal ones, and of overlapping classes, each of which is there or not, the
        mean of theirs: 0 (sure) to 1; one channel along ``dim``.
    """
    import torch  # the command line imports this room, and PyTorch takes seconds

    if overlapping and probabilities.shape[dim] > 1:
        both = torch.special.entr(probabilities) + torch.special.entr(1 - probabilities)
        return (both.mean(dim, keepdim=True) / math.log(2)).clamp(0, 1)
    if probabilities.shape[dim] == 1:
        probabilities = torch.cat([probabilities, 1 - probabilities], dim)
    entropy = torch.special.entr(probabilities).sum(dim, keepdim=True)
    return (entropy / math.log(probabilities.shape[dim])).clamp(0, 1)
