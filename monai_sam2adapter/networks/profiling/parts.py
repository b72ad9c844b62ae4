# SPDX-License-Identifier: Apache-2.0
"""The parts of a network: which parameters and which modules belong to each."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["OTHER_PART", "parameters_by_part", "part_of_modules"]

#: what belongs to no part
OTHER_PART = "other"


def parameters_by_part(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """
    The parameters by part, each once.

    Args:
        model: any network. One with ``parameter_groups()`` has the parts that this names, any other one its children.

    Returns:
        parameters by name of the part; "other" is there when it has any.
    """
    groups = _groups_of(model)
    if groups is None:
        groups = {name: list(child.parameters()) for name, child in model.named_children()}
    seen: set[int] = set()
    parts: dict[str, list[nn.Parameter]] = {}
    for part, parameters in (*groups.items(), (OTHER_PART, list(model.parameters()))):
        new = list({id(p): p for p in parameters if id(p) not in seen}.values())
        seen.update(map(id, new))
        if new or part != OTHER_PART:
            parts.setdefault(part, []).extend(new)
    return parts


def part_of_modules(model: nn.Module) -> dict[int, str]:
    """
    The part of each module below the root, by the module's ``id``. A module that is missing belongs to the part of the
    one that calls it.

    Args:
        model: as for :func:`parameters_by_part`.

    Returns:
        names of parts, as :func:`parameters_by_part` has them.
    """
    groups = _groups_of(model)
    if groups is None:
        # reversed, so that a module of two children belongs to the first of them
        children = reversed(list(model.named_children()))
        return {id(module): name for name, child in children for module in child.modules()}
    part_of = {id(p): part for part, parameters in groups.items() for p in parameters}
    # What is added to a module, such as the adapters in a block, stands behind the module's own parameters.
    first = ((module, next(module.parameters(), None)) for module in model.modules() if module is not model)
    return {id(module): part_of[id(parameter)] for module, parameter in first if id(parameter) in part_of}


def _groups_of(model: Any) -> dict[str, list[nn.Parameter]] | None:
    return model.parameter_groups() if hasattr(model, "parameter_groups") else None
