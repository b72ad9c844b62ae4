# SPDX-License-Identifier: Apache-2.0
"""What every adapter has in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import torch
from torch import nn

from ..blocks import AdaptedBlock

__all__ = ["Adapter", "AdapterConfig"]


@dataclass(frozen=True)
class AdapterConfig:
    """
    The settings of an adapter method; the same in a bundle's JSON, in Python and in a saved file.

    Args:
        bottleneck_ratio: width of the adapter over the channels of its block, in (0, 1]. Defaults to 0.25.
        scale: factor on the adapter's output. Defaults to 0.5, as in G-SAM (arXiv:2408.12406).
        blocks: indices of the trunk's blocks to adapt, negative ones from the end; None for all. Defaults to None.

    Raises:
        ValueError: when a value is out of its range.
    """

    bottleneck_ratio: float = 0.25
    scale: float = 0.5
    blocks: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("bottleneck_ratio", "scale"):
            if isinstance(getattr(self, name), bool) or not isinstance(getattr(self, name), int | float):
                raise ValueError(f"{name} must be a number, got {getattr(self, name)!r}.")
        if not 0 < self.bottleneck_ratio <= 1:
            raise ValueError(f"bottleneck_ratio must be in (0, 1], got {self.bottleneck_ratio}.")
        if not math.isfinite(self.scale):
            raise ValueError(f"scale must be finite, got {self.scale}.")
        if self.blocks is not None:
            if isinstance(self.blocks, int | str):
                raise ValueError(f"blocks must be a list of block indices, got {self.blocks!r}.")
            object.__setattr__(self, "blocks", tuple(int(block) for block in self.blocks))

    def to_dict(self) -> dict[str, Any]:
        """The settings as a dictionary that JSON can hold."""
        settings = {key: value for key, value in asdict(self).items() if key in self._names()}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> AdapterConfig:
        """
        Build the settings from a dictionary; what it leaves out keeps its default.

        Raises:
            ValueError: when the dictionary has a key that is no setting of this method.
        """
        known = cls._names()
        unknown = sorted(set(settings) - set(known))
        if unknown:
            raise ValueError(f"unknown adapter setting {', '.join(unknown)}; the settings of this method are {known}.")
        return cls(**settings)

    @classmethod
    def _names(cls) -> list[str]:
        """The settings of this method; a subclass may take an inherited one out of use by ``field(init=False)``."""
        return [field.name for field in fields(cls) if field.init]


class Adapter(nn.Module, ABC):
    """
    A small trained module in a slot of a frozen :class:`~monai_sam2adapter.networks.blocks.AdaptedBlock`.

    A method subclasses it, names its slot and the class of its settings, and registers itself with
    :func:`~monai_sam2adapter.networks.adapters.register_adapter`. All its parameters and buffers are adapter state.

    Args:
        channels: channels ``C`` of the tokens.
        config: the method's settings. None stands for its own, ``config_class()``. Defaults to None.
    """

    slot: ClassVar[str] = "mlp"
    #: it looks at each token by itself; of an encoder with class and register tokens it gets these, too
    per_token: ClassVar[bool] = False
    config_class: ClassVar[type[AdapterConfig]] = AdapterConfig

    def __init__(self, channels: int, config: AdapterConfig | None = None) -> None:
        super().__init__()
        self.channels = channels
        self.config = self.config_class() if config is None else config

    @classmethod
    def for_block(cls, block: AdaptedBlock, config: AdapterConfig) -> Adapter:
        """Build the adapter for the slot of a block."""
        return cls(block.slot_channels(cls.slot), config)

    @abstractmethod
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: tokens, ``(B, H, W, C)``.

        Returns:
            what the block adds to its own output, ``(B, H, W, C)``.
        """
