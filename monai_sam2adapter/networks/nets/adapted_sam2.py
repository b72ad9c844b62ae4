# SPDX-License-Identifier: Apache-2.0
"""What all networks on SAM 2's image encoder, or on one in its place, have in common."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from monai.utils import look_up_option
from torch import nn

from ...utils.logs import escaping_logger
from ..adapters import Adapter, AdapterConfig, inject_adapters
from ..blocks import PositionalEncodingGenerator
from ..layers import is_tracing_or_exporting
from ..weights import load_sam2_checkpoint
from .adapter_options import AdapterSettings, resolve_adapters, resolve_freeze
from .sam2_config import SAM2_VARIANTS
from .vit import ViTTrunk

__all__ = ["AdaptedSAM2"]

logger = escaping_logger(__name__)

MIN_SIZE, SIZE_DIVISOR = 32, 32
#: layers whose frozen weights can be held in half precision; norms and embeddings are small, and stay as they are
_MATRIX_LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


class AdaptedSAM2(nn.Module):
    """
    Base of the networks on a pretrained encoder: options, frozen parts, input of any size and channels, and state.

    A subclass builds ``self.image_encoder``, which has a ``trunk`` with ``blocks``, each an
    :class:`~monai_sam2adapter.networks.blocks.AdaptedBlock`: SAM 2's
    :class:`~monai_sam2adapter.networks.nets.HieraTrunk`, or a :class:`~monai_sam2adapter.networks.nets.ViTTrunk`. It
    builds its other parts, and calls ``_load_freeze_and_adapt`` at the end of its constructor.

    A network whose frozen parts have never got weights says so in the log, once, at its first step in training mode.

    Args:
        variant: size of SAM 2: "tiny", "small", "base_plus" or "large".
        adapter: a registered method, a list of several, "none" or "full" (no adapter, all weights are trained).
        in_channels: channels of the images. 3 are taken as they are, 1 is repeated, others pass a trained 1 x 1
            convolution.
        out_channels: number of classes; 1 for a single sigmoid channel.
        freeze: parts that are not trained, of ``freezable_parts``. None stands for all of them, or for none of them
            with ``adapter="full"``. Defaults to None.
        adapter_config: settings of the adapter; of several, a list beside that of the names, or a dictionary by name.
            None stands for a method's own. Defaults to None.

    Raises:
        ValueError: when an option is unknown or does not go with another one.
    """

    freezable_parts: ClassVar[tuple[str, ...]] = ("image_encoder",)
    #: what ``parameter_groups`` calls the part that is new and trained, besides adapters
    head_name: ClassVar[str] = "decoder"
    #: whose the pretrained weights are, and how to get them, for messages
    base_name: str = "SAM 2"
    base_advice: str = (
        "Get the weights with `python -m monai_sam2adapter download sam2.1_hiera_tiny` (or small, base_plus, large) "
        "and give their name or path as sam2_checkpoint; or train all weights from scratch with adapter 'full'."
    )
    #: sizes of the encoder, and what sides of the images are padded to multiples of
    variants: Sequence[str] = SAM2_VARIANTS
    size_divisor: int = SIZE_DIVISOR
    image_encoder: Any

    def __init__(
        self,
        variant: str,
        adapter: str | Sequence[str],
        in_channels: int,
        out_channels: int,
        freeze: Sequence[str] | None = None,
        adapter_config: AdapterSettings = None,
    ) -> None:
        super().__init__()
        look_up_option(variant, self.variants)
        resolve_adapters(adapter, adapter_config)
        for name, count in (("in_channels", in_channels), ("out_channels", out_channels)):
            if count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}.")
        self.variant = variant
        self.in_channels, self.out_channels = in_channels, out_channels
        self.frozen_parts = resolve_freeze(adapter, freeze, self.freezable_parts)
        self.base_checkpoint: str | None = None
        self._says_random = True
        self.frozen_dtype: torch.dtype | None = None
        self._full_precision: dict[str, torch.Tensor] = {}
        self.register_state_dict_post_hook(_in_full_precision)
        self.input_projection = nn.Conv2d(in_channels, 3, kernel_size=1) if in_channels not in (1, 3) else None

    def train(self, mode: bool = True) -> AdaptedSAM2:
        """
        Set the training mode; frozen parts stay in eval mode, so that their norms and dropout do not change.

        A module with a ``train`` of its own is asked to set its mode. One walk over the modules: trainers call it in
        every iteration.
        """
        if not isinstance(mode, bool):
            raise ValueError(f"the training mode must be True or False, got {mode!r}.")
        frozen = {id(module) for part in self.frozen_parts for module in self._pretrained_parts()[part]}
        placed = self._kinds_by_place()

        def walk(module: nn.Module, training: bool) -> None:
            for child in module._modules.values():
                if child is None:
                    continue
                of_child = id(child) not in frozen and (mode if _kind_of(child, placed) else training)
                if type(child).train is not nn.Module.train:
                    child.train(of_child)
                    continue
                if child.training is not of_child:
                    child.training = of_child
                walk(child, of_child)

        self.training = mode
        walk(self, mode)
        return self

    def cast_frozen(self, dtype: torch.dtype) -> None:
        """
        Hold the frozen weights in another precision, cast once instead of by autocast in every pass.

        These are weights and biases of linear layers and convolutions that are not trained. What is trained stays in
        float32, and so do norms and embeddings. The network then computes as under autocast of this dtype where none is
        on, and returns the dtype of its input. The state dict goes on holding the weights in full precision, which are
        kept in the main memory: files and checksums are those of the network without this.

        Args:
            dtype: ``torch.bfloat16``, or ``torch.float32`` for the weights as they were.

        Raises:
            ValueError: when it is another dtype.
        """
        if dtype not in (torch.bfloat16, torch.float32):
            raise ValueError(f"frozen weights are held in torch.bfloat16 or torch.float32, got {dtype}.")
        for name, parameter in self._frozen_matrices():
            original = self._full_precision.get(name, parameter.detach())
            parameter.data = original.to(parameter.device, dtype)
            if dtype != torch.float32:
                self._full_precision[name] = original.cpu()
        if dtype == torch.float32:
            self._full_precision.clear()
        self.frozen_dtype = None if dtype == torch.float32 else dtype

    def __prepare_scriptable__(self) -> AdaptedSAM2:
        """What ``torch.jit.script`` asks first, as ``monai.bundle ckpt_export`` does without ``--use_trace``."""
        raise RuntimeError(
            f"{type(self).__name__} cannot be scripted, since {self.base_name}'s image encoder cannot; record it "
            "instead: "
            f'`monai.bundle ckpt_export ... --use_trace True --input_shape "[1,{self.in_channels},224,224]"`, or '
            "`python -m monai_sam2adapter export BUNDLE --format ts`, which fuses the adapters first."
        )

    @property
    def config(self) -> dict[str, Any]:
        """
        The settings that define the network's weights, as JSON can hold them.

        ``type(net)(**net.config)`` has the same names in its state dict, whatever was injected, merged or removed since
        ``net`` was built. With several adapters, ``adapter`` and ``adapter_config`` are lists.
        """
        without = ("none" if self.frozen_parts else "full", None)
        adapters = list(self._injected_adapters()) or [without]
        names, settings = [name for name, _ in adapters], [config for _, config in adapters]
        return {
            "variant": self.variant,
            "adapter": names[0] if len(names) == 1 else names,
            "adapter_config": settings[0] if len(names) == 1 else settings,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "freeze": list(self.frozen_parts),
        }

    def added_state_names(self) -> set[str]:
        """Names in the state dict of everything that is added to pretrained networks: adapters, head and the like."""
        return {f"{name}.{key}" for name, module, _ in self._added_modules() for key in module.state_dict()}

    def sam2_state_names(self) -> set[str]:
        """Names in the state dict that are SAM 2's own, spelled as in its files."""
        return set(self.state_dict()) - self.added_state_names()

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters by part: pretrained parts without what was added to them, then each kind of added module."""
        added_modules = list(self._added_modules())
        added = {id(p) for _, module, _ in added_modules for p in module.parameters()}
        groups = {
            part: [p for module in modules for p in module.parameters() if id(p) not in added]
            for part, modules in self._pretrained_parts().items()
        }
        for _, module, kind in added_modules:
            groups.setdefault(kind, []).extend(module.parameters())
        return groups

    def load_base(self, checkpoint: str | os.PathLike[str]) -> None:
        """
        Load the pretrained weights by the names of their own files, strictly, and name them in ``base_checkpoint``.

        Args:
            checkpoint: of SAM 2 a path or a name of the catalog, see
                :func:`~monai_sam2adapter.networks.weights.load_sam2_checkpoint`; of SAM 3 a path; of DINOv3 the path of
                a file of timm, or "timm" to download its own.

        Raises:
            FileNotFoundError: when it is no file.
            RuntimeError: when it cannot be downloaded.
            CheckpointError: when the file does not fit.
        """
        trunk = self.image_encoder.trunk
        if isinstance(trunk, ViTTrunk):
            trunk.load(self, checkpoint)
            self.base_checkpoint = Path(checkpoint).stem
        else:
            load_sam2_checkpoint(self, checkpoint)

    def accept_random(self) -> None:
        """Say nothing of random weights in frozen parts at the first step: they were asked for, or told already."""
        self._says_random = False

    def _load_freeze_and_adapt(
        self, checkpoint: str | None, adapter: str | Sequence[str], adapter_config: AdapterSettings
    ) -> None:
        """The end of every constructor. Freezing comes first, so that adapters are trained whatever is frozen."""
        if checkpoint is not None:
            self.load_base(checkpoint)
        groups = self.parameter_groups()
        for part in self.frozen_parts:
            for parameter in groups[part]:
                parameter.requires_grad_(False)
        for name, settings in resolve_adapters(adapter, adapter_config):
            inject_adapters(self.image_encoder, name, settings)
        self.train(self.training)

    def _frozen_matrices(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Weights and biases of the layers that are not trained, by name."""
        for prefix, module in self.named_modules():
            for name, parameter in module.named_parameters(recurse=False) if isinstance(module, _MATRIX_LAYERS) else ():
                if not parameter.requires_grad:
                    yield f"{prefix}.{name}", parameter

    def _pad(self, x: torch.Tensor) -> torch.Tensor:
        """Check the images, pad them with zeros at the right and the bottom to what fits, give three channels."""
        self._check_input(x)
        height, width = x.shape[-2:]
        rows, columns = (_round_up(side, self.size_divisor) for side in (height, width))
        x = F.pad(x, (0, columns - width, 0, rows - height))
        return x.expand(-1, 3, -1, -1) if self.input_projection is None else self.input_projection(x)

    def _pretrained_parts(self) -> dict[str, list[nn.Module]]:
        """The modules of each freezable part."""
        return {"image_encoder": [self.image_encoder]}

    def _head_modules(self) -> list[nn.Module]:
        """The new and trained modules besides adapters, position encodings and input projection."""
        others = [self.input_projection, *(part for parts in self._pretrained_parts().values() for part in parts)]
        return [child for child in self.children() if not any(child is other for other in others)]

    def _kinds_by_place(self) -> dict[int, str]:
        """The kind of the added modules that only their place tells, by their ``id``."""
        kinds = {id(module): self.head_name for module in self._head_modules()}
        if self.input_projection is not None:
            kinds[id(self.input_projection)] = "input_projection"
        return kinds

    def _added_modules(self) -> Iterator[tuple[str, nn.Module, str]]:
        """Name, module and kind of all that no pretrained network has, decided by type and place, never by a name."""
        placed, outer = self._kinds_by_place(), "\0"
        for name, module in self.named_modules():
            kind = _kind_of(module, placed)
            if kind is not None and not name.startswith(outer):
                yield name, module, kind
                outer = f"{name}."

    def _injected_adapters(self) -> Iterator[tuple[str, dict[str, Any] | None]]:
        """Name and settings of each injection, in an order that gives every block its adapters as they are now."""
        blocks = self.image_encoder.trunk.blocks
        found: dict[tuple[str, str], tuple[AdapterConfig, list[int]]] = {}
        order: TopologicalSorter[tuple[str, str]] = TopologicalSorter()
        for index, block in enumerate(blocks):
            before: list[tuple[str, str]] = []
            for name, adapter in block.adapters.items():
                injection = (name, repr(adapter.config.to_dict()))
                found.setdefault(injection, (adapter.config, []))[1].append(index)
                order.add(injection, *before)
                before = [injection]
        for name, text in order.static_order():
            config, indices = found[name, text]
            settings = config.to_dict()
            named = range(len(blocks)) if config.blocks is None else {index % len(blocks) for index in config.blocks}
            if set(named) != set(indices):  # some were taken out of their blocks
                settings["blocks"] = indices
            yield name, settings

    def _check_input(self, x: torch.Tensor) -> None:
        if is_tracing_or_exporting():  # a check of the example's size would be frozen into the record
            return
        if self._says_random and self.training and not torch.compiler.is_compiling():
            self._tell_of_random_weights()
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"input of shape {tuple(x.shape)} must be (batch, {self.in_channels}, height, width); volumes are "
                "read slice by slice, see VolumeSliceInferer."
            )
        for side in x.shape[2:]:
            # torch.compile takes it for a number from here on, and makes a graph for each size. With a symbol, which it
            # would take from the second size on, recording lasts ten times as long: windows depend on sizes.
            operator.index(side)
        if min(x.shape[2:]) < MIN_SIZE:
            raise ValueError(
                f"spatial size {tuple(x.shape[2:])} is below {MIN_SIZE} pixels; resize or pad the image to "
                f"{MIN_SIZE} or more."
            )

    def _tell_of_random_weights(self) -> None:
        self._says_random = False
        if self.frozen_parts and self.base_checkpoint is None:
            logger.warning(
                "%s is trained with %s frozen, which never got weights: they are random, and adapters on them miss all "
                "that %s has learned. %s",
                type(self).__name__,
                ", ".join(self.frozen_parts),
                self.base_name,
                self.base_advice,
            )

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        if {prefix + "frozen_sha256", prefix + "network"} <= state_dict.keys():  # which is left out, if not strict
            raise ValueError(
                "this is the state of a training, last.pt, and no network: its frozen weights are not in it. Take the "
                "model.pt of that training, or read it with monai_sam2adapter.networks.weights.load_network_weights."
            )
        # how MONAI, too, loads whole networks; what has the weights that are there already brings none
        name = next((name for name, parameter in self.named_parameters() if not parameter.requires_grad), None)
        if self.base_checkpoint is None and name is not None and prefix + name in state_dict:
            loaded, own = state_dict[prefix + name], self.get_parameter(name)
            if loaded.shape == own.shape and not own.is_meta and not torch.equal(loaded.to(own), own):
                self.base_checkpoint = "a state dictionary"
        for key, before in self._full_precision.items():
            given = state_dict.get(prefix + key, before)
            if given.shape == before.shape:  # else PyTorch says so
                self._full_precision[key] = given.detach().to("cpu", before.dtype, copy=True)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _in_full_precision(net: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """A hook of ``state_dict``: the frozen weights as they were before they were cast."""
    for name, original in net._full_precision.items():  # type: ignore[operator, union-attr]
        state_dict[prefix + name] = original


def _kind_of(module: nn.Module, placed: Mapping[int, str]) -> str | None:
    """What kind of addition a module is; None for one of a pretrained network."""
    if isinstance(module, Adapter):
        return "adapters"
    if isinstance(module, PositionalEncodingGenerator):
        return "positional_encoding"
    return placed.get(id(module))


def _round_up(size: int, divisor: int) -> int:
    """The next multiple, in the form in which torch.export can reason about it."""
    return (size + divisor - 1) // divisor * divisor
