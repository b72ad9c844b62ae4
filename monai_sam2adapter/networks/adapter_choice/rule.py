# SPDX-License-Identifier: Apache-2.0
"""The rule behind ``adapter: auto``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, product
from typing import Any

from ...data import LabelProfile
from .choice import AdapterChoice
from .costs import AdapterCosts

__all__ = [
    "LONG_BOUNDARY",
    "MANY_CLASSES",
    "SMALL_STRUCTURE",
    "WIDTHS",
    "check_macs_budget",
    "choose_adapter",
    "find_fine_structures",
]

# Thresholds follow from the strides of the trunk, 4, 8, 16 and 32 pixels; none was fitted to a result.
SMALL_STRUCTURE = 16.0
"""Diameter in pixels. A smaller structure is less than one token in the third stage, which has most of the blocks."""
LONG_BOUNDARY = 0.25
"""Boundary per area, in 1 / pixel: that of strips 8 pixels wide, one token of the second stage."""
MANY_CLASSES = 5
"""Number of classes. A guess between the tasks at hand: ACDC has 3 and Synapse 8."""
WIDTHS = (0.5, 0.25, 0.125, 0.0625)
"""Bottleneck ratios to choose from, the widest first."""

_NUM_STAGES = 4  # of every variant
_GIGA = 1e9


def choose_adapter(profile: LabelProfile, macs_budget: float, costs: AdapterCosts) -> AdapterChoice:
    """
    Choose method, width and stages of the adapters by a rule. It is a heuristic of ours, not a result of a paper.

    Structures are fine when one in ten is smaller than ``SMALL_STRUCTURE``, when there is more boundary per area than
    ``LONG_BOUNDARY``, or when there are ``MANY_CLASSES`` or more. The first of these candidates within the budget is
    taken:

    - fine structures: ``hp`` in all stages, since only the early ones resolve such structures, from the widest to the
      narrowest; then ``lw`` in the same way. The width gives way to the stages.
    - large, smooth structures: ``lw``, the widest in all stages, in the last three, the last two and the last one; then
      the next width in the same way. The early stages, where maps are large, give way to the width.

    Args:
        profile: the labels of the training.
        macs_budget: what one image may cost in inference, in 10^9 multiply-accumulate operations (MACs): the whole
            network with trunk and head.
        costs: of the network.

    Returns:
        the choice.

    Raises:
        ValueError: when the budget is not a positive number, or no candidate is within it.
    """
    check_macs_budget(macs_budget, costs)
    traits = find_fine_structures(profile)
    passed: list[int] = []  # MACs of the candidates that were too expensive
    for adapter, width, first in _candidates(bool(traits)):
        config = _config(width, first, costs)
        macs = costs.total(adapter, config)
        if macs <= macs_budget * _GIGA:
            why = f"{', and '.join(traits)}: fine structures" if traits else _describe_smooth(profile)
            where = "in all stages" if first == 0 else f"from stage {first + 1} on"
            fit = f"{adapter} {where} with width {width:g} costs {_giga(macs)} of {macs_budget:g} G MACs per image"
            next_one = f", the candidate before it {_giga(passed[-1])}" if passed else ", and there is no wider one"
            return AdapterChoice(adapter, config, macs, float(macs_budget), f"{why}. {fit}{next_one}.", profile)
        passed.append(macs)
    raise ValueError(_too_small(macs_budget, costs, min(passed)))


def check_macs_budget(macs_budget: float, costs: AdapterCosts) -> None:
    """
    Refuse a budget that cannot be met, whatever the labels look like.

    Args:
        macs_budget: as in :func:`choose_adapter`.
        costs: of the network.

    Raises:
        ValueError: when it is not a positive number, or less than what the cheapest candidate costs.
    """
    if isinstance(macs_budget, bool) or not isinstance(macs_budget, int | float) or not macs_budget > 0:
        raise ValueError(
            "macs_budget must be a positive number, in 10^9 multiply-accumulate operations per image, got "
            f"{macs_budget!r}."
        )
    cheapest = costs.total("lw", _config(WIDTHS[-1], _NUM_STAGES - 1, costs))
    if cheapest > macs_budget * _GIGA:
        raise ValueError(_too_small(macs_budget, costs, cheapest))


def find_fine_structures(profile: LabelProfile) -> list[str]:
    """
    Say what makes the structures of a profile fine.

    Returns:
        one text for each threshold that is passed; none for large, smooth structures.
    """
    found = []
    if profile.small_diameter < SMALL_STRUCTURE:
        found.append(
            f"one structure in ten is below {profile.small_diameter:.1f} pixels in diameter (fine below "
            f"{SMALL_STRUCTURE:g})"
        )
    if profile.boundary_per_area > LONG_BOUNDARY:
        found.append(
            f"there are {profile.boundary_per_area:.2f} pixels of boundary per pixel of area (fine above "
            f"{LONG_BOUNDARY:g})"
        )
    if profile.num_classes >= MANY_CLASSES:
        found.append(f"there are {profile.num_classes} classes (many from {MANY_CLASSES})")
    return found


def _candidates(fine: bool) -> Iterator[tuple[str, float, int]]:
    """Method, width and first adapted stage, in the order of preference."""
    if fine:
        yield from product(("hp", "lw"), WIDTHS, (0,))
    else:
        yield from product(("lw",), WIDTHS, range(_NUM_STAGES))


def _config(width: float, first: int, costs: AdapterCosts) -> dict[str, Any]:
    if first == 0:
        return {"bottleneck_ratio": width}
    return {"bottleneck_ratio": width, "blocks": list(chain(*costs.stage_blocks[first:]))}


def _describe_smooth(profile: LabelProfile) -> str:
    return (
        f"nine structures in ten are {profile.small_diameter:.1f} pixels or more in diameter, there are "
        f"{profile.boundary_per_area:.2f} pixels of boundary per pixel of area, and {profile.num_classes} "
        f"class{'es' if profile.num_classes > 1 else ''}: large, smooth structures"
    )


def _too_small(macs_budget: float, costs: AdapterCosts, cheapest: int) -> str:
    return (
        f"no adapter fits macs_budget {macs_budget:g}: the network costs {_giga(costs.bare)} G MACs per image without "
        f"adapters and {_giga(cheapest)} with the cheapest one. Raise the budget, or take a smaller variant or "
        "image_size."
    )


def _giga(macs: int) -> str:
    return f"{macs / _GIGA:.3f}"
