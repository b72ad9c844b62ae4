# SPDX-License-Identifier: Apache-2.0
"""What the tests of several networks need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn


@pytest.fixture(scope="session")
def checkpoint_keys() -> Path:
    """JSON files with the names and shapes of the tensors in official and peers' checkpoints."""
    return Path(__file__).parent / "checkpoint_keys"


@pytest.fixture(scope="session")
def randomize() -> Callable[[nn.Module], nn.Module]:
    """Give every parameter and BatchNorm statistic a random value, so that no equality holds only for zeros or ones."""
    return _randomize


@pytest.fixture(scope="session")
def relative_error() -> Callable[[torch.Tensor, torch.Tensor], float]:
    """The largest absolute difference over the largest magnitude of the reference."""
    return _relative_error


@torch.no_grad()
def _randomize(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)

    def normal(tensor: torch.Tensor, std: float, mean: float = 0.0) -> None:
        tensor.copy_(mean + std * torch.randn(tensor.shape, generator=generator))

    for name, parameter in module.named_parameters():
        if "pos_embed" in name:
            normal(parameter, 0.5)
        elif parameter.ndim > 1:
            fan_in = parameter.shape[-1] if parameter.ndim < 4 else parameter[0].numel()
            normal(parameter, fan_in**-0.5)
        else:
            normal(parameter, 0.2, mean=float(name.endswith("weight")))
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            normal(part.running_mean, 0.5)
            part.running_var.copy_(0.5 + 1.5 * torch.rand(part.running_var.shape, generator=generator))
    return module


def _relative_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    if got.shape != expected.shape:
        raise AssertionError(f"shape {tuple(got.shape)} is not {tuple(expected.shape)}")
    largest = expected.abs().max()
    assert largest > 0, "the reference is zero everywhere, which any other zero would equal"
    return ((got - expected).abs().max() / largest).item()
