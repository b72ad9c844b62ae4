# SPDX-License-Identifier: Apache-2.0
"""Measuring what a network costs, and showing it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .counting import count_macs
from .keeping import device_of, in_eval_mode, placed_on, random_input
from .latency import latencies_in_turn
from .macs_count import MAC_KINDS, NOT_COUNTED
from .network_profile import NetworkProfile
from .parts import parameters_by_part
from .peak_memory import measure_peak_memory

__all__ = ["profile_network", "profile_table"]


def profile_network(
    model: nn.Module, input_shape: Sequence[int], repeats: int = 5, device: torch.device | str | None = None
) -> NetworkProfile:
    """
    Measure what a forward pass of a network costs, in eval mode and on random values.

    Args:
        model: any network that takes one tensor. Its mode and its place are given back.
        input_shape: of the input, with the batch, such as ``(1, 3, 256, 256)``.
        repeats: passes that are timed, of which the median counts. Defaults to 5.
        device: where it runs. None stands for where it is. Defaults to None.

    Returns:
        the profile: parameters and operations by part, time and memory.

    Raises:
        ValueError: when ``repeats`` or a number of ``input_shape`` is below 1, or when the network calls an operator
            whose operations cannot be counted.

    Example:
        >>> from monai_sam2adapter.networks.nets import PromptFreeSAM2
        >>> from monai_sam2adapter.networks.profiling import profile_network
        >>> profile = profile_network(PromptFreeSAM2(adapter="lw"), (1, 3, 64, 64), repeats=1)
        >>> round(profile.macs.total / 1e9, 1)
        0.4
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}.")
    with placed_on(model, device_of(model) if device is None else torch.device(device)), in_eval_mode(model):
        x = random_input(model, input_shape)
        macs, peak_memory = count_macs(model, x), measure_peak_memory(model, x)
        (latency,) = latencies_in_turn({"model": model}, {"model": input_shape}, repeats).values()
        place = str(x.device)
    parts = parameters_by_part(model)
    return NetworkProfile(
        input_shape=tuple(input_shape),
        device=place,
        trained_parameters={name: sum(p.numel() for p in part if p.requires_grad) for name, part in parts.items()},
        total_parameters={name: sum(p.numel() for p in part) for name, part in parts.items()},
        macs=macs,
        latency=latency,
        peak_memory=peak_memory,
    )


def profile_table(profile: NetworkProfile) -> str:
    """
    A profile as text: a line per part and one for the sum, then time, memory and what is not counted.

    Args:
        profile: of :func:`profile_network`.

    Returns:
        the lines; MACs are in 10^9 (G), shares those of all MACs.
    """
    columns = "{:<20} {:>12} {:>12}" + "".join(f" {{:>{width}}}" for width in (*map(len, _HEADINGS), 9, 7))
    lines = [columns.format("part", "trained", "total", *_HEADINGS, "all MACs", "share")]
    total = max(profile.macs.total, 1)
    rows = {part: _row_of(profile, part) for part in {**profile.total_parameters, **profile.macs.by_part}}
    rows["all"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    for part, (trained, parameters, *macs) in rows.items():
        giga = [f"{count / 1e9:.3f}" for count in (*macs, sum(macs))]
        lines.append(columns.format(part, f"{trained:,}", f"{parameters:,}", *giga, f"{sum(macs) / total:.1%}"))
    lines += [
        "",
        f"input {' x '.join(map(str, profile.input_shape))} on {profile.device}: "
        f"{profile.latency:.4f} s in the median, {profile.peak_memory / 1e6:.1f} MB at the peak",
        f"MACs: 10^9 of the whole batch; not counted: {NOT_COUNTED}",
    ]
    if not profile.device.startswith("cuda"):
        lines.append("memory: all tensors that are alive together; what operators take for themselves is not seen")
    return "\n".join(lines)


# in the order of MAC_KINDS
_HEADINGS = ("  linear", "convolution", "attention", "deformable", "resampling")


def _row_of(profile: NetworkProfile, part: str) -> list[int]:
    kinds = profile.macs.by_part_and_kind.get(part, {})
    parameters = (profile.trained_parameters.get(part, 0), profile.total_parameters.get(part, 0))
    return [*parameters, *(kinds.get(kind, 0) for kind in MAC_KINDS)]
