# SPDX-License-Identifier: Apache-2.0
"""The adapter methods by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from monai.utils import look_up_option

from .base import Adapter

__all__ = ["adapter_names", "get_adapter_class", "register_adapter"]

_ADAPTERS: dict[str, type[Adapter]] = {}
# What a network takes as `adapter` besides the methods: nothing injected, and nothing injected with all weights
# trained.
RESERVED_NAMES = ("none", "full")

AdapterClass = TypeVar("AdapterClass", bound=type[Adapter])


def register_adapter(name: str) -> Callable[[AdapterClass], AdapterClass]:
    """
    Register an adapter method under a name; the class decorator for methods of ours and of users.

    Args:
        name: lower-case identifier, such as "hp"; part of the keys of saved weights.

    Raises:
        ValueError: when the name is taken, reserved or no lower-case identifier.
        TypeError: when the class is no :class:`Adapter`.
    """
    if not name.isidentifier() or name != name.lower():
        raise ValueError(f"an adapter's name must be a lower-case identifier, got {name!r}.")
    if name in RESERVED_NAMES or name in _ADAPTERS:
        raise ValueError(
            f"the adapter name {name!r} is taken; registered: {adapter_names()}, reserved: {RESERVED_NAMES}."
        )

    def register(adapter_class: AdapterClass) -> AdapterClass:
        if not issubclass(adapter_class, Adapter):
            raise TypeError(f"{adapter_class.__name__} must subclass Adapter to be registered as {name!r}.")
        _ADAPTERS[name] = adapter_class
        return adapter_class

    return register


def adapter_names() -> list[str]:
    """The names of the registered adapter methods."""
    return sorted(_ADAPTERS)


def get_adapter_class(name: str) -> type[Adapter]:
    """
    Look an adapter method up.

    Raises:
        ValueError: when no method has this name; the message lists those that exist.
    """
    return _ADAPTERS[look_up_option(name, adapter_names())]
