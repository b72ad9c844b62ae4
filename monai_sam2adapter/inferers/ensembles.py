# SPDX-License-Identifier: Apache-2.0
"""Averages over several networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ..utils import class_probabilities, entropy_of, logits_of

__all__ = ["average_members"]


def average_members(
    predictions: Sequence[Callable[[], torch.Tensor]], entropy: bool = False, overlapping: bool = False
) -> dict[str, torch.Tensor]:
    """
    Average the class probabilities of an ensemble of networks.

    One network runs after the other, and only the sum is kept: memory does not grow with their number, as it does with
    ``monai.engines.EnsembleEvaluator`` and ``monai.transforms.MeanEnsemble``, which hold the output of each.

    Args:
        predictions: for each network a function that gives its logits, ``(N, K, H, W)``.
        entropy: whether to add the mean of the networks' entropies, to tell where they disagree. Defaults to False.
        overlapping: whether a pixel may have several classes. Defaults to False.

    Returns:
        ``"pred"``: logits, ``(N, K, H, W)``, whose softmax (sigmoid for one channel, and for classes that overlap) are
        the mean probabilities, float32; those of a single network as they are. ``"member_entropy"``, where wanted, of
        several networks: ``(N, 1, H, W)``, in parts of the largest possible.
    """
    if len(predictions) == 1:
        return {"pred": predictions[0]()}
    total = spread = torch.zeros(())
    for predict in predictions:
        probabilities = class_probabilities(predict(), 1, overlapping)
        spread = spread + entropy_of(probabilities, 1, overlapping) if entropy else spread
        total = probabilities.add_(total)
    parts = {"pred": logits_of(total.div_(len(predictions)), 1, overlapping)}
    return {**parts, "member_entropy": spread / len(predictions)} if entropy else parts
