# SPDX-License-Identifier: Apache-2.0
"""Several small MLPs of the same shape run as one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

__all__ = ["BatchedMLP"]


class BatchedMLP(nn.Module):
    """
    One MLP per token, all of the same shape, computed as one batched matrix product per layer.

    It stands for a list of sam2's ``MLP`` modules (ReLU between layers, none after the last) with weights stacked
    along a leading dimension, as SAM 2's mask decoder has one hyper-network per mask token.

    Source: ``sam2/modeling/sam2_utils.py`` (Apache-2.0), differs in running all networks at once.

    Args:
        num_mlps: number of MLPs ``N``.
        channels: sizes of input, hidden layers and output, for example ``(256, 256, 256, 32)``.

    Raises:
        ValueError: when ``num_mlps`` is below 1 or ``channels`` names no layer.
    """

    def __init__(self, num_mlps: int, channels: Sequence[int]) -> None:
        super().__init__()
        if num_mlps < 1 or len(channels) < 2:
            raise ValueError(
                f"at least one MLP with an input and an output size is needed, got num_mlps={num_mlps} and "
                f"channels={tuple(channels)}."
            )
        layers = [nn.Linear(fan_in, fan_out) for fan_in, fan_out in pairwise(channels)]
        self.weights = nn.ParameterList([layer.weight.detach().repeat(num_mlps, 1, 1) for layer in layers])
        self.biases = nn.ParameterList([layer.bias.detach().repeat(num_mlps, 1) for layer in layers])

    @torch.no_grad()
    def copy_from(self, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor]) -> None:
        """
        Set every MLP to the layers of a single one.

        Args:
            weights: one ``(C_out, C_in)`` matrix per layer.
            biases: one ``(C_out,)`` vector per layer.

        Raises:
            ValueError: when number or shapes of the layers differ.
        """
        got = [tuple(t.shape) for t in (*weights, *biases)]
        expected = [tuple(p.shape[1:]) for p in (*self.weights, *self.biases)]
        if got != expected:
            raise ValueError(f"the layers have the shapes {got}, expected {expected}.")
        for parameter, value in zip((*self.weights, *self.biases), (*weights, *biases), strict=True):
            parameter.copy_(value.expand_as(parameter))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: one vector per MLP, ``(B, N, C_in)``.

        Returns:
            ``(B, N, C_out)``.
        """
        x = x.transpose(0, 1)  # (B, N, C) -> (N, B, C)
        last = len(self.weights) - 1
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))
            x = x if index == last else x.relu()
        return x.transpose(0, 1)  # (N, B, C) -> (B, N, C)
