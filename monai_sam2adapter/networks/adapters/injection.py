# SPDX-License-Identifier: Apache-2.0
"""Putting adapters into a network, merging them into its weights, and taking them out again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ...utils.logs import escaping_logger
from ..blocks import AdaptedBlock
from .base import AdapterConfig
from .registry import get_adapter_class

__all__ = [
    "InjectionReport",
    "NoMatchingModuleError",
    "inject_adapters",
    "merge_adapters",
    "remove_adapters",
    "unmerge_adapters",
]

logger = escaping_logger(__name__)


class NoMatchingModuleError(ValueError):
    """An adapter method found no place in the network."""


@dataclass(frozen=True)
class InjectionReport:
    """
    What an injection adapted.

    Args:
        adapter: name of the method.
        slot: the slot that was filled, see :class:`~monai_sam2adapter.networks.blocks.AdaptedBlock`.
        modules: names of the adapted blocks in the network.
        num_parameters: parameters that the adapters have together.
    """

    adapter: str
    slot: str
    modules: tuple[str, ...]
    num_parameters: int

    def __str__(self) -> str:
        return (
            f"adapter {self.adapter!r} in slot {self.slot!r} of {len(self.modules)} blocks, "
            f"{self.num_parameters:,} parameters: {', '.join(self.modules)}"
        )


def inject_adapters(
    model: nn.Module, adapter: str, config: AdapterConfig | Mapping[str, Any] | None = None
) -> InjectionReport:
    """
    Put one adapter of a registered method into every block of a network, or into those that the settings name.

    Nothing is changed when an error is raised. Adapters are created on the device and in the dtype of their block.

    Args:
        model: a network with :class:`~monai_sam2adapter.networks.blocks.AdaptedBlock` modules; the adapters get its
            mode, training or eval.
        adapter: name of the method.
        config: its settings, as an object or a dictionary. Defaults to the method's own.

    Returns:
        what was adapted.

    Raises:
        ValueError: when the method or a setting is unknown, or a block has an adapter of this name.
        NoMatchingModuleError: when the network has no block to adapt.
    """
    # Prepare.
    adapter_class = get_adapter_class(adapter)
    settings = resolve_settings(adapter, config)
    # Match.
    matched = _match_blocks(model, settings.blocks)
    # Check.
    taken = [name for name, block in matched.items() if block.has_adapter(adapter)]
    if taken:
        raise ValueError(f"{', '.join(taken)} have an adapter {adapter!r} already; call remove_adapters first.")
    # Apply; all adapters exist before the first one is put in, since a user's method may fail on one of the blocks.
    slot = adapter_class.slot
    created = [adapter_class.for_block(block, settings) for block in matched.values()]
    for block, module in zip(matched.values(), created, strict=True):
        reference = next(block.parameters())
        block.add_adapter(adapter, slot, module.to(reference.device, reference.dtype).train(model.training))
    count = sum(parameter.numel() for module in created for parameter in module.parameters())
    report = InjectionReport(adapter, slot, tuple(matched), count)
    logger.info(str(report))
    return report


def remove_adapters(model: nn.Module) -> int:
    """
    Take all adapters out, merged ones too, which gives back the exact network before the injection.

    Returns:
        the number of removed adapters.

    Raises:
        ValueError: as :func:`unmerge_adapters`.
    """
    _require_full_precision(model)
    return sum(block.remove_adapters() for block in _blocks_of(model).values())


def merge_adapters(model: nn.Module) -> int:
    """
    Merge all adapters of a network into the weights of its blocks, in place, with the same output.

    The network then is one without adapters, in its state dict and its ``config`` too. To keep the network as it is and
    get a merged copy for inference, use :func:`~monai_sam2adapter.networks.utils.reparameterize_model`.

    Args:
        model: a network with LoRA adapters.

    Returns:
        the number of merged adapters.

    Raises:
        ValueError: when the network has an adapter of another method. Nothing is merged then.
    """
    blocks = _blocks_of(model).values()
    others = sorted({name for block in blocks for name in block.adapters if name not in block.mergeable_adapters()})
    if others:
        raise ValueError(
            f"adapter {', '.join(map(repr, others))} cannot be merged: only a method that changes a weight by another "
            "one, such as 'lora', can. Use the network as it is, or remove_adapters first."
        )
    return sum(block.merge_adapters() for block in blocks)


def unmerge_adapters(model: nn.Module) -> int:
    """
    Undo :func:`merge_adapters`: the weights are those before to the last bit, and the adapters can be trained further.

    Args:
        model: the network. Weights that were loaded or trained in its attention since the merge are lost.

    Returns:
        the number of adapters put back; 0 when none was merged, or by ``reparameterize_model``, which keeps none.

    Raises:
        ValueError: when adapters are merged into weights that are held in half precision. Nothing is changed then.
    """
    _require_full_precision(model)
    return sum(block.unmerge_adapters() for block in _blocks_of(model).values())


def _require_full_precision(model: nn.Module) -> None:
    """A network that has cast its frozen weights keeps their originals with what was merged into them."""
    dtype = getattr(model, "frozen_dtype", None)
    if dtype is not None and any(block.has_merged for block in _blocks_of(model).values()):
        raise ValueError(
            f"the weights with merged adapters are held in {dtype}; call cast_frozen(torch.float32) first, then take "
            "the adapters out."
        )


def resolve_settings(adapter: str, config: AdapterConfig | Mapping[str, Any] | None) -> AdapterConfig:
    """
    The settings of a registered method, checked.

    Args:
        adapter: name of the method.
        config: its settings, as an object or a dictionary. None stands for its own.

    Raises:
        ValueError: when the method or a setting is unknown, or a value is out of its range.
    """
    adapter_class = get_adapter_class(adapter)
    if isinstance(config, AdapterConfig):
        if not isinstance(config, adapter_class.config_class):
            raise ValueError(
                f"{adapter_class.__name__} takes a {adapter_class.config_class.__name__}, "
                f"got a {type(config).__name__}."
            )
        return config
    if config is not None and not isinstance(config, Mapping):
        raise ValueError(
            f"settings of {adapter_class.__name__} must be a dictionary or a {adapter_class.config_class.__name__}, "
            f"got {config!r}."
        )
    return adapter_class.config_class.from_dict(dict(config or {}))


def _blocks_of(model: nn.Module) -> dict[str, AdaptedBlock]:
    return {name: module for name, module in model.named_modules() if isinstance(module, AdaptedBlock)}


def _match_blocks(model: nn.Module, indices: tuple[int, ...] | None) -> dict[str, AdaptedBlock]:
    blocks = _blocks_of(model)
    if not blocks:
        raise NoMatchingModuleError(
            f"{type(model).__name__} has no block to adapt; inject into a network of this package, "
            "such as PromptFreeSAM2 or its image_encoder."
        )
    if indices is None:
        return blocks
    outside = [index for index in indices if not -len(blocks) <= index < len(blocks)]
    if outside:
        raise ValueError(f"blocks {outside} do not exist: the trunk has {len(blocks)} blocks, counted from 0.")
    if not indices:
        raise NoMatchingModuleError("the setting 'blocks' is empty; name at least one block, or leave it out for all.")
    chosen = {index % len(blocks) for index in indices}
    return {name: block for index, (name, block) in enumerate(blocks.items()) if index in chosen}
