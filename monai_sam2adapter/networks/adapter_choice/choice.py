# SPDX-License-Identifier: Apache-2.0
"""A chosen adapter and why it was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...data import LabelProfile

__all__ = ["AdapterChoice"]

_KEYS = ("adapter", "config", "macs", "macs_budget", "reason", "profile")


@dataclass(frozen=True)
class AdapterChoice:
    """
    The adapter of a network: the one that was asked for, or one that :func:`choose_adapter` has chosen.

    Args:
        adapter: name of the method, as the networks take it.
        config: settings of the method, as the networks take them as ``adapter_config``; None for its own defaults.
        macs: multiply-accumulate operations for one image of the whole network in inference, if it was chosen.
        macs_budget: the budget that was given, in 10^9 operations, if it was chosen.
        reason: why, in one or two sentences; empty when it was not chosen.
        profile: the labels that it was chosen for.
    """

    adapter: str
    config: dict[str, Any] | None = None
    macs: int | None = None
    macs_budget: float | None = None
    reason: str = ""
    profile: LabelProfile | None = None

    def to_dict(self) -> dict[str, Any]:
        """The choice as JSON can hold it."""
        profile = None if self.profile is None else self.profile.to_dict()
        return {**{key: getattr(self, key) for key in _KEYS}, "profile": profile}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> AdapterChoice:
        """
        Build a choice from what :py:meth:`to_dict` gave.

        Raises:
            ValueError: when the content is not that of a choice.
        """
        if not isinstance(content, Mapping) or sorted(content) != sorted(_KEYS):
            raise ValueError(f"a choice of an adapter holds {', '.join(_KEYS)}, got {content!r:.200}.")
        profile = content["profile"]
        return cls(**{**content, "profile": None if profile is None else LabelProfile.from_dict(profile)})

    def __str__(self) -> str:
        lines = [f"adapter {self.adapter}, adapter_config {self.config}"]
        if self.reason:
            lines[0] = f"adapter auto: {lines[0].removeprefix('adapter ')}"
            lines += [f"  because {self.reason}", f"  labels: {self.profile}"]
        return "\n".join(lines)
