# SPDX-License-Identifier: Apache-2.0
"""What all networks on SAM 2's image encoder have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from monai.utils import look_up_option
from torch import nn

from ..adapters import Adapter, AdapterConfig, adapter_names, inject_adapters
from ..blocks import PositionalEncodingGenerator
from ..layers import is_tracing_or_exporting
from ..weights import load_sam2_checkpoint
from .sam2_config import SAM2_VARIANTS

__all__ = ["AdaptedSAM2"]

MIN_SIZE, SIZE_DIVISOR = 32, 32


class AdaptedSAM2(nn.Module):
    """
    Base of the networks on SAM 2's image encoder: options, frozen parts, input of any size and channels, and state.

    A subclass builds ``self.image_encoder``, which has a :class:`~monai_sam2adapter.networks.nets.HieraTrunk` as
    ``trunk``, and its other parts, and calls ``_load_freeze_and_adapt`` at the end of its constructor.

    Args:
        variant: size of SAM 2: "tiny", "small", "base_plus" or "large".
        adapter: a registered method, "none" or "full" (no adapter, all weights are trained).
        in_channels: channels of the images. 3 are taken as they are, 1 is repeated, others pass a trained 1 x 1
            convolution.
        out_channels: number of classes; 1 for a single sigmoid channel.
        freeze: parts that are not trained, of ``freezable_parts``. None stands for all of them, or for none of them
            with ``adapter="full"``. Defaults to None.
        adapter_config: settings of the adapter; its own defaults when None or empty.

    Raises:
        ValueError: when an option is unknown or does not go with another one.
    """

    freezable_parts: ClassVar[tuple[str, ...]] = ("image_encoder",)
    #: what ``parameter_groups`` calls the part that is new and trained, besides adapters
    head_name: ClassVar[str] = "decoder"
    image_encoder: Any

    def __init__(
        self,
        variant: str,
        adapter: str,
        in_channels: int,
        out_channels: int,
        freeze: Sequence[str] | None = None,
        adapter_config: AdapterConfig | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        look_up_option(variant, SAM2_VARIANTS)
        look_up_option(adapter, [*adapter_names(), "none", "full"])
        for name, count in (("in_channels", in_channels), ("out_channels", out_channels)):
            if count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}.")
        if adapter_config and not isinstance(adapter_config, (AdapterConfig, Mapping)):
            raise ValueError(
                f"adapter_config must be a dictionary, got {adapter_config!r}; write it as "
                "--adapter_config \"{'bottleneck_ratio': 0.5}\" or --adapter_config#bottleneck_ratio 0.5."
            )
        if adapter in ("none", "full") and adapter_config:
            raise ValueError(f"adapter {adapter!r} has no settings; leave adapter_config out.")
        self.variant = variant
        self.in_channels, self.out_channels = in_channels, out_channels
        self.frozen_parts = _resolve_freeze(adapter, freeze, self.freezable_parts)
        self.base_checkpoint: str | None = None
        self.input_projection = nn.Conv2d(in_channels, 3, kernel_size=1) if in_channels not in (1, 3) else None

    def train(self, mode: bool = True) -> AdaptedSAM2:
        """Set the training mode; frozen parts stay in eval mode, so that their norms and dropout do not change."""
        super().train(mode)
        if mode:
            for part in self.frozen_parts:
                for module in self._pretrained_parts()[part]:
                    module.eval()
            for _, module in self._added_modules():
                module.train()
        return self

    @property
    def config(self) -> dict[str, Any]:
        """The settings that define the network's weights, as JSON can hold them."""
        # Read off the modules, so that it also holds after inject_adapters and remove_adapters.
        adapters = {
            name: adapter.config.to_dict()
            for block in self.image_encoder.trunk.blocks
            for name, adapter in block.adapters.items()
        }
        return {
            "variant": self.variant,
            "adapter": "+".join(adapters) or ("none" if self.frozen_parts else "full"),
            "adapter_config": next(iter(adapters.values())) if len(adapters) == 1 else adapters or None,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "freeze": list(self.frozen_parts),
        }

    def added_state_names(self) -> set[str]:
        """Names in the state dict of everything that is added to pretrained networks: adapters, head and the like."""
        return {f"{name}.{key}" for name, module in self._added_modules() for key in module.state_dict()}

    def sam2_state_names(self) -> set[str]:
        """Names in the state dict that are SAM 2's own, spelled as in its files."""
        return set(self.state_dict()) - self.added_state_names()

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters by part: pretrained parts without what was added to them, then each kind of added module."""
        added = {id(p) for _, module in self._added_modules() for p in module.parameters()}
        groups = {
            part: [p for module in modules for p in module.parameters() if id(p) not in added]
            for part, modules in self._pretrained_parts().items()
        }
        for _, module in self._added_modules():
            groups.setdefault(str(self._kind_of(module)), []).extend(module.parameters())
        return groups

    def _load_freeze_and_adapt(
        self, checkpoint: str | None, adapter: str, adapter_config: AdapterConfig | Mapping[str, Any] | None
    ) -> None:
        """The end of every constructor. Freezing comes first, so that adapters are trained whatever is frozen."""
        if checkpoint is not None:
            load_sam2_checkpoint(self, checkpoint)
        groups = self.parameter_groups()
        for part in self.frozen_parts:
            for parameter in groups[part]:
                parameter.requires_grad_(False)
        if adapter not in ("none", "full"):
            inject_adapters(self.image_encoder, adapter, adapter_config)
        self.train(self.training)

    def _pad(self, x: torch.Tensor) -> torch.Tensor:
        """Check the images, pad them with zeros at the right and the bottom to multiples of 32, give three channels."""
        self._check_input(x)
        height, width = x.shape[-2:]
        x = F.pad(x, (0, _round_up(width) - width, 0, _round_up(height) - height))
        return x.expand(-1, 3, -1, -1) if self.input_projection is None else self.input_projection(x)

    def _pretrained_parts(self) -> dict[str, list[nn.Module]]:
        """The modules of each freezable part."""
        return {"image_encoder": [self.image_encoder]}

    def _head_modules(self) -> list[nn.Module]:
        """The new and trained modules besides adapters, position encodings and input projection."""
        others = [self.input_projection, *(part for parts in self._pretrained_parts().values() for part in parts)]
        return [child for child in self.children() if not any(child is other for other in others)]

    def _added_modules(self) -> list[tuple[str, nn.Module]]:
        """Everything that no pretrained network has, decided by type and place, never by a part of a name."""
        added: list[tuple[str, nn.Module]] = []
        for name, module in self.named_modules():
            inside_another = any(name.startswith(f"{outer}.") for outer, _ in added)
            if not inside_another and self._kind_of(module) is not None:
                added.append((name, module))
        return added

    def _kind_of(self, module: nn.Module) -> str | None:
        """What kind of addition a module is; None for one of a pretrained network."""
        if isinstance(module, Adapter):
            return "adapters"
        if isinstance(module, PositionalEncodingGenerator):
            return "positional_encoding"
        if module is self.input_projection:
            return "input_projection"
        return self.head_name if any(module is part for part in self._head_modules()) else None

    def _check_input(self, x: torch.Tensor) -> None:
        if is_tracing_or_exporting():  # a check of the example's size would be frozen into the record
            return
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"input of shape {tuple(x.shape)} must be (batch, {self.in_channels}, height, width); volumes are "
                "read slice by slice, see VolumeSliceInferer."
            )
        if min(x.shape[2:]) < MIN_SIZE:
            raise ValueError(
                f"spatial size {tuple(x.shape[2:])} is below {MIN_SIZE} pixels; resize or pad the image to "
                f"{MIN_SIZE} or more."
            )


def _resolve_freeze(adapter: str, freeze: Sequence[str] | None, parts: tuple[str, ...]) -> tuple[str, ...]:
    if freeze is None:
        return () if adapter == "full" else parts
    if isinstance(freeze, str):
        raise ValueError(f"freeze must be a list of parts, got the string {freeze!r}; write ['{freeze}'].")
    for part in freeze:
        look_up_option(part, parts)
    if adapter == "full" and freeze:
        raise ValueError(f"adapter 'full' trains all weights, but freeze names {list(freeze)}; take one of the two.")
    return tuple(part for part in parts if part in freeze)


def _round_up(size: int) -> int:
    """The next multiple of 32, in the form in which torch.export can reason about it."""
    return (size + SIZE_DIVISOR - 1) // SIZE_DIVISOR * SIZE_DIVISOR
