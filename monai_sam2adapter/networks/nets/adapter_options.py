# SPDX-License-Identifier: Apache-2.0
"""What a network is told about its adapters and its frozen parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from monai.utils import look_up_option

from ..adapters import AdapterConfig, adapter_names, resolve_settings

__all__ = ["WITHOUT_ADAPTER", "AdapterSettings", "resolve_adapters", "resolve_freeze"]

WITHOUT_ADAPTER = ("none", "full")
Settings = AdapterConfig | Mapping[str, Any]
#: settings of one adapter, or of several: in a list beside the names, or by name
AdapterSettings = Settings | Sequence[Settings | None] | Mapping[str, Settings] | None


def resolve_adapters(adapter: str | Sequence[str], adapter_config: AdapterSettings) -> list[tuple[str, AdapterConfig]]:
    """
    Name and settings of each adapter to inject; for "none" and "full" there is none.

    Args:
        adapter: as of the networks.
        adapter_config: as of the networks.

    Raises:
        ValueError: when a name or a setting is unknown or wrong, or they do not belong together.
    """
    if isinstance(adapter, str):
        look_up_option(adapter, [*adapter_names(), *WITHOUT_ADAPTER])
        if adapter_config and not isinstance(adapter_config, AdapterConfig | Mapping):
            raise ValueError(
                f"adapter_config must be a dictionary, got {adapter_config!r}; write it as "
                "--adapter_config \"{'bottleneck_ratio': 0.5}\" or --adapter_config#bottleneck_ratio 0.5."
            )
        if adapter not in WITHOUT_ADAPTER:
            return [(adapter, resolve_settings(adapter, cast("Settings | None", adapter_config)))]
        if adapter_config not in (None, {}):
            raise ValueError(f"adapter {adapter!r} has no settings; leave adapter_config out.")
        return []
    names = list(adapter)
    if not names:
        raise ValueError("the list of adapters is empty; give at least one name, or 'none'.")
    for name in names:
        look_up_option(name, adapter_names())
    if isinstance(adapter_config, Mapping):
        if not adapter_config.keys() <= set(names):
            raise ValueError(
                f"adapter_config has settings for {sorted(adapter_config)}, the adapters are {names}; give settings by "
                "the adapters' names, or a list of them."
            )
        return [(name, resolve_settings(name, adapter_config.get(name))) for name in names]
    settings = [None] * len(names) if adapter_config is None else adapter_config
    if isinstance(settings, str | AdapterConfig) or len(settings) != len(names):
        raise ValueError(f"adapter_config must be a list of settings, one for each of {names}, got {adapter_config!r}.")
    return [(name, resolve_settings(name, one)) for name, one in zip(names, settings, strict=True)]


def resolve_freeze(
    adapter: str | Sequence[str], freeze: Sequence[str] | None, parts: tuple[str, ...]
) -> tuple[str, ...]:
    """
    The parts that are not trained, in the order of ``parts``.

    Args:
        adapter: as of the networks.
        freeze: as of the networks.
        parts: those that can be frozen.

    Raises:
        ValueError: when a part is unknown, or all weights are to be trained.
    """
    if freeze is None:
        return () if adapter == "full" else parts
    if isinstance(freeze, str):
        raise ValueError(f"freeze must be a list of parts, got the string {freeze!r}; write ['{freeze}'].")
    for part in freeze:
        look_up_option(part, parts)
    if adapter == "full" and freeze:
        raise ValueError(f"adapter 'full' trains all weights, but freeze names {list(freeze)}; take one of the two.")
    return tuple(part for part in parts if part in freeze)
