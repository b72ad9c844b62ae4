# SPDX-License-Identifier: Apache-2.0
"""What the prompt-free networks have in common: an encoder of some kind, and SAM 2's mask decoder by classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..blocks import PositionalEncodingGenerator
from ..weights import INPUT_CHANNELS
from .adapted_sam2 import AdaptedSAM2
from .adapter_options import AdapterSettings
from .empty_prompt_encoder import EmptyPromptEncoder
from .frozen_dtype import in_frozen_dtype
from .mask_decoder import PromptFreeMaskDecoder

__all__ = ["PromptFreeNetwork"]


class PromptFreeNetwork(AdaptedSAM2):
    """
    Base of the networks that end in a :class:`~monai_sam2adapter.networks.nets.PromptFreeMaskDecoder`.

    A subclass builds ``image_encoder``, ``sam_prompt_encoder``, ``sam_mask_decoder``, ``positional_encoding`` (None
    for fixed positions in the decoder) and ``output_stride``, and says how images are encoded.

    Args: as of :class:`~monai_sam2adapter.networks.nets.AdaptedSAM2`.
    """

    sam_prompt_encoder: EmptyPromptEncoder
    sam_mask_decoder: PromptFreeMaskDecoder
    positional_encoding: PositionalEncodingGenerator | None
    output_stride: int
    #: what ``positional_encoding`` is called without PEG
    own_positions: str = "sam2"

    def __init__(
        self,
        variant: str,
        adapter: str | Sequence[str],
        in_channels: int,
        out_channels: int,
        freeze: Sequence[str] | None = None,
        adapter_config: AdapterSettings = None,
    ) -> None:
        super().__init__(variant, adapter, in_channels, out_channels, freeze, adapter_config)
        # weights for 1 channel and for 3 have the same names and shapes, so the number is kept among them
        self.register_buffer(INPUT_CHANNELS, torch.tensor(in_channels))

    @in_frozen_dtype
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: images, ``(B, in_channels, H, W)``, any ``H, W >= 32``.

        Returns:
            logits, ``(B, out_channels, H, W)``.

        Raises:
            ValueError: when the shape does not fit.
        """
        padded = self._pad(x)
        *skips, embedding = self._encode(padded)
        embedding = embedding + self.sam_prompt_encoder.dense_embedding()
        logits = self.sam_mask_decoder(embedding, self._positions(embedding), skips, padded)
        return logits[..., : x.shape[-2], : x.shape[-1]]

    @property
    def config(self) -> dict[str, Any]:
        """The settings that define the network's weights, as JSON can hold them."""
        positional_encoding = self.own_positions if self.positional_encoding is None else "peg"
        finer = {} if self.output_stride == 4 else {"output_stride": self.output_stride}  # files of before have none
        return {**super().config, "positional_encoding": positional_encoding, **finer}

    def added_state_names(self) -> set[str]:
        """Names in the state dict that no pretrained network has, with that of the number of channels."""
        return {INPUT_CHANNELS, *super().added_state_names()}

    def _encode(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Three maps of 256 channels, each twice as fine as the next one; the last one is the image embedding."""
        raise NotImplementedError

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        saved = state_dict.get(prefix + INPUT_CHANNELS)
        if saved is not None and int(saved) != self.in_channels:
            error_msgs = args[-1]  # what PyTorch raises as one error in the end
            error_msgs.append(f"the weights are for in_channels={int(saved)}, the network has {self.in_channels}.")
            return
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _positions(self, embedding: torch.Tensor) -> torch.Tensor:
        if self.positional_encoding is not None:
            return self.positional_encoding(embedding)
        return self.sam_prompt_encoder.dense_positions(embedding).expand(embedding.shape[0], -1, -1, -1)
