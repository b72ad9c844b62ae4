# SPDX-License-Identifier: Apache-2.0
"""The multiply-accumulate operations of a forward pass, by part and by kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["MAC_KINDS", "NOT_COUNTED", "MacsCount"]

#: the kinds of operations that are counted
MAC_KINDS = ("linear", "convolution", "attention", "deformable convolution", "resampling")
#: what is not counted, in words
NOT_COUNTED = "normalizations, activations, softmax, pooling, elementwise sums and products"


@dataclass(frozen=True)
class MacsCount:
    """
    Multiply-accumulate operations (MACs) of one forward pass over a whole batch. One MAC is two floating-point
    operations.

    Args:
        by_part_and_kind: MACs by part of the network and, for each part, by all of ``MAC_KINDS``.
    """

    by_part_and_kind: dict[str, dict[str, int]]

    @property
    def total(self) -> int:
        """All MACs."""
        return sum(self.by_part.values())

    @property
    def by_part(self) -> dict[str, int]:
        """MACs of each part, those without any too."""
        return {part: sum(kinds.values()) for part, kinds in self.by_part_and_kind.items()}

    @property
    def by_kind(self) -> dict[str, int]:
        """MACs of each of ``MAC_KINDS``."""
        return {kind: sum(kinds[kind] for kinds in self.by_part_and_kind.values()) for kind in MAC_KINDS}

    def to_dict(self) -> dict[str, Any]:
        """The numbers as JSON can hold them: ``total``, ``by_kind``, ``by_part`` and ``by_part_and_kind``."""
        return {
            "total": self.total,
            "by_kind": self.by_kind,
            "by_part": self.by_part,
            "by_part_and_kind": {part: dict(kinds) for part, kinds in self.by_part_and_kind.items()},
        }
