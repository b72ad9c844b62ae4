# SPDX-License-Identifier: Apache-2.0
"""How long a forward pass takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import nn

from .keeping import device_of, in_eval_mode, random_input

__all__ = ["latencies_in_turn"]


def latencies_in_turn(
    models: Mapping[str, nn.Module], input_shapes: Mapping[str, Sequence[int]], repeats: int = 5
) -> dict[str, float]:
    """
    Time a forward pass of each network, in eval mode and in inference mode.

    All run once to warm up, then in turn, so that a slow moment of the machine hits all of them.

    Args:
        models: networks by name, each on its device. Their modes are given back.
        input_shapes: of the random input of each, with the batch. For one shape for all:
            ``dict.fromkeys(models, (1, 3, 256, 256))``.
        repeats: passes of each network that are timed. Defaults to 5.

    Returns:
        median seconds by name.

    Raises:
        ValueError: when ``repeats`` is below 1, a shape is not positive or the names differ.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}.")
    if set(models) != set(input_shapes):
        raise ValueError(
            f"input_shapes must have the names of models, {sorted(models)}, got {sorted(input_shapes)}; give one shape "
            "for each."
        )
    inputs = {name: random_input(model, input_shapes[name]) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    with ExitStack() as stack:
        for model in models.values():
            stack.enter_context(in_eval_mode(model))
        for _ in range(repeats + 1):
            for name, model in models.items():
                seconds[name].append(_time(model, inputs[name]))
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}  # without the first, the warm-up


@torch.inference_mode()
def _time(model: nn.Module, x: torch.Tensor) -> float:
    device = device_of(model)
    start = _now(device)
    model(x)
    return _now(device) - start


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
