# SPDX-License-Identifier: Apache-2.0
"""SAM 2 as a prompt-free, multi-class segmentation network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.utils import look_up_option
from torch import nn

from ..adapters import Adapter, AdapterConfig, adapter_names, inject_adapters
from ..blocks import PositionalEncodingGenerator
from ..layers import is_tracing_or_exporting
from ..weights import INPUT_CHANNELS, load_sam2_checkpoint
from .empty_prompt_encoder import EmptyPromptEncoder
from .hiera import POSITIONAL_ENCODINGS
from .image_encoder import SAM2ImageEncoder
from .mask_decoder import PromptFreeMaskDecoder
from .sam2_config import SAM2_VARIANTS

__all__ = ["PromptFreeSAM2"]

FREEZABLE_PARTS = ("image_encoder", "prompt_encoder", "mask_decoder")
MIN_SIZE, SIZE_DIVISOR = 32, 32


class PromptFreeSAM2(nn.Module):
    """
    SAM 2's image encoder and mask decoder, frozen, with trained adapters, position encoding (PEG) and class tokens.

    The network takes images of any size from 32 x 32 pixels and returns logits of exactly that size: it pads to a
    multiple of 32 inside, on the right and at the bottom, and crops. All tensors that come from SAM 2 keep sam2's
    names.

    Source: Mitsuoka & Hotta, arXiv:2605.05979 (adapters, PEG, prompt-free head); SAM 2, arXiv:2408.00714, sam2 package
    (Apache-2.0). The first paper's full text does not give placement, widths or SAM 2's size: our defaults are listed
    in docs/design.md, and this is not the authors' code.

    Args:
        variant: size of SAM 2: "tiny", "small", "base_plus" or "large". Defaults to "tiny".
        adapter: a registered method ("hp", "lw", "adaptformer", "sm_adaptformer", "lora", "conv_lora"), "none" (only
            PEG and head are trained) or "full" (no adapter, all weights are trained). Defaults to "hp".
        positional_encoding: "peg" (the paper's) or "sam2" (its fixed encodings). Defaults to "peg".
        in_channels: channels of the images. 3 are taken as they are, 1 is repeated, others pass a trained 1 x 1
            convolution. Defaults to 3.
        out_channels: number of classes; 1 for a single sigmoid channel. Defaults to 2.
        checkpoint: SAM 2's weights: a path, or a name of the catalog such as "sam2.1_hiera_tiny", which is downloaded
            if it was not before. None leaves random weights. Defaults to None.
        freeze: parts of SAM 2 that are not trained, of "image_encoder", "prompt_encoder" and "mask_decoder". None
            stands for all of them, or for none of them with ``adapter="full"``. Defaults to None.
        adapter_config: settings of the adapter, see :class:`~monai_sam2adapter.networks.adapters.AdapterConfig`.
        activation_checkpointing: recompute trunk blocks in the backward pass to save memory. Defaults to False.
        pad_windows: pad attention windows as sam2 does; slower, same output. Defaults to False.

    Raises:
        ValueError: when an option is unknown or does not go with another one.

    Example:
        >>> import torch
        >>> from monai_sam2adapter.networks.nets import PromptFreeSAM2
        >>> net = PromptFreeSAM2(variant="tiny", adapter="hp", in_channels=1, out_channels=4).eval()
        >>> with torch.no_grad():
        ...     net(torch.rand(1, 1, 100, 75)).shape
        torch.Size([1, 4, 100, 75])
    """

    def __init__(
        self,
        variant: str = "tiny",
        adapter: str = "hp",
        positional_encoding: str = "peg",
        in_channels: int = 3,
        out_channels: int = 2,
        checkpoint: str | None = None,
        freeze: Sequence[str] | None = None,
        adapter_config: AdapterConfig | Mapping[str, Any] | None = None,
        activation_checkpointing: bool = False,
        pad_windows: bool = False,
    ) -> None:
        super().__init__()
        look_up_option(variant, SAM2_VARIANTS)
        look_up_option(adapter, [*adapter_names(), "none", "full"])
        look_up_option(positional_encoding, POSITIONAL_ENCODINGS)
        if in_channels < 1:
            raise ValueError(f"in_channels must be at least 1, got {in_channels}.")
        if adapter in ("none", "full") and adapter_config is not None:
            raise ValueError(f"adapter {adapter!r} has no settings; leave adapter_config out.")
        self.variant = variant
        self.in_channels, self.out_channels = in_channels, out_channels
        # weights for 1 channel and for 3 have the same names and shapes, so the number is kept among them
        self.register_buffer(INPUT_CHANNELS, torch.tensor(in_channels))
        self.frozen_parts = _resolve_freeze(adapter, freeze)
        self.base_checkpoint: str | None = None

        self.input_projection = nn.Conv2d(in_channels, 3, kernel_size=1) if in_channels not in (1, 3) else None
        self.image_encoder = SAM2ImageEncoder(variant, positional_encoding, activation_checkpointing, pad_windows)
        embed_dim = self.image_encoder.channels[-1]
        self.sam_prompt_encoder = EmptyPromptEncoder(embed_dim)
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, embed_dim))
        nn.init.trunc_normal_(self.no_mem_embed, std=0.02)
        self.sam_mask_decoder = PromptFreeMaskDecoder(out_channels)
        self.positional_encoding = PositionalEncodingGenerator(embed_dim) if positional_encoding == "peg" else None

        if checkpoint is not None:
            load_sam2_checkpoint(self, checkpoint)
        self._freeze()
        if adapter not in ("none", "full"):
            inject_adapters(self.image_encoder, adapter, adapter_config)
        self.train(self.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: images, ``(B, in_channels, H, W)``, any ``H, W >= 32``.

        Returns:
            logits, ``(B, out_channels, H, W)``.

        Raises:
            ValueError: when the shape does not fit.
        """
        self._check_input(x)
        height, width = x.shape[-2:]
        x = F.pad(x, (0, _round_up(width) - width, 0, _round_up(height) - height))
        features = self.image_encoder(self._to_three_channels(x))
        embedding = features[-1] + self.no_mem_embed.permute(0, 2, 1).unsqueeze(-1)
        embedding = embedding + self.sam_prompt_encoder.dense_embedding()
        logits = self.sam_mask_decoder(embedding, self._positions(embedding), features[:-1])
        logits = F.interpolate(logits, size=x.shape[-2:], mode="bilinear", align_corners=False)
        return logits[..., :height, :width]

    def train(self, mode: bool = True) -> PromptFreeSAM2:
        """Set the training mode; frozen parts stay in eval mode, so that their norms and dropout do not change."""
        super().train(mode)
        if mode:
            for part in self.frozen_parts:
                for module in self._parts_of_sam2()[part]:
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
            "positional_encoding": "sam2" if self.positional_encoding is None else "peg",
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "freeze": list(self.frozen_parts),
        }

    def init_head(self, token: torch.Tensor, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor]) -> None:
        """Start the class head from SAM 2's mask token and hyper-network, see :class:`PromptFreeMaskDecoder`."""
        self.sam_mask_decoder.init_head(token, weights, biases)

    def added_state_names(self) -> set[str]:
        """Names in the state dict that are not SAM 2's: adapters, PEG, class head, input projection and channels."""
        names = {f"{name}.{key}" for name, module in self._added_modules() for key in module.state_dict()}
        return {INPUT_CHANNELS, *names}

    def sam2_state_names(self) -> set[str]:
        """Names in the state dict that are SAM 2's own, spelled as in its files."""
        return set(self.state_dict()) - self.added_state_names()

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters by part: SAM 2's parts without what was added to them, then each kind of added module."""
        groups: dict[str, list[nn.Parameter]] = {part: [] for part in FREEZABLE_PARTS}
        added = {id(p) for _, module in self._added_modules() for p in module.parameters()}
        for part, modules in self._parts_of_sam2().items():
            groups[part] = [p for module in modules for p in module.parameters() if id(p) not in added]
        groups["prompt_encoder"].append(self.no_mem_embed)
        for _, module in self._added_modules():
            groups.setdefault(_kind_of(module), []).extend(module.parameters())
        return groups

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        saved = state_dict.get(prefix + INPUT_CHANNELS)
        if saved is not None and int(saved) != self.in_channels:
            error_msgs = args[-1]  # what PyTorch raises as one error in the end
            error_msgs.append(f"the weights are for in_channels={int(saved)}, the network has {self.in_channels}.")
            return
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _added_modules(self) -> list[tuple[str, nn.Module]]:
        """Everything that SAM 2 does not have, decided by type and place, never by a part of a name."""
        head = (self.sam_mask_decoder.class_tokens, self.sam_mask_decoder.class_hypernetworks)
        added: list[tuple[str, nn.Module]] = []
        for name, module in self.named_modules():
            inside_another = any(name.startswith(f"{outer}.") for outer, _ in added)
            is_added = isinstance(module, Adapter | PositionalEncodingGenerator)
            if not inside_another and (is_added or module in head or module is self.input_projection):
                added.append((name, module))
        return added

    def _parts_of_sam2(self) -> dict[str, list[nn.Module]]:
        return {
            "image_encoder": [self.image_encoder],
            "prompt_encoder": [self.sam_prompt_encoder],
            "mask_decoder": [self.sam_mask_decoder],
        }

    def _freeze(self) -> None:
        """Called before the injection, so that adapters are trained whatever is frozen around them."""
        groups = self.parameter_groups()
        for part in self.frozen_parts:
            for parameter in groups[part]:
                parameter.requires_grad_(False)

    def _to_three_channels(self, x: torch.Tensor) -> torch.Tensor:
        if self.input_projection is not None:
            return self.input_projection(x)
        return x.expand(-1, 3, -1, -1)

    def _positions(self, embedding: torch.Tensor) -> torch.Tensor:
        if self.positional_encoding is not None:
            return self.positional_encoding(embedding)
        return self.sam_prompt_encoder.dense_positions(embedding).expand(embedding.shape[0], -1, -1, -1)

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


def _resolve_freeze(adapter: str, freeze: Sequence[str] | None) -> tuple[str, ...]:
    if freeze is None:
        return () if adapter == "full" else FREEZABLE_PARTS
    if isinstance(freeze, str):
        raise ValueError(f"freeze must be a list of parts, got the string {freeze!r}; write ['{freeze}'].")
    for part in freeze:
        look_up_option(part, FREEZABLE_PARTS)
    if adapter == "full" and freeze:
        raise ValueError(f"adapter 'full' trains all weights, but freeze names {list(freeze)}; take one of the two.")
    return tuple(part for part in FREEZABLE_PARTS if part in freeze)


def _round_up(size: int) -> int:
    """The next multiple of 32, in the form in which torch.export can reason about it."""
    return (size + SIZE_DIVISOR - 1) // SIZE_DIVISOR * SIZE_DIVISOR


def _kind_of(module: nn.Module) -> str:
    if isinstance(module, Adapter):
        return "adapters"
    if isinstance(module, PositionalEncodingGenerator):
        return "positional_encoding"
    return "input_projection" if isinstance(module, nn.Conv2d) else "class_head"
