# SPDX-License-Identifier: Apache-2.0
"""SAM 2 as a prompt-free, multi-class segmentation network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from monai.utils import look_up_option
from torch import nn

from ..blocks import PositionalEncodingGenerator
from .adapter_options import AdapterSettings
from .empty_prompt_encoder import EmptyPromptEncoder
from .hiera import POSITIONAL_ENCODINGS
from .image_encoder import SAM2ImageEncoder
from .mask_decoder import PromptFreeMaskDecoder
from .prompt_free import PromptFreeNetwork

__all__ = ["PromptFreeSAM2"]


class PromptFreeSAM2(PromptFreeNetwork):
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
        adapter: a registered method ("hp", "lw", "adaptformer", "sm_adaptformer", "lora", "conv_lora"), a list of
            several, "none" (only PEG and head are trained) or "full" (no adapter, all weights are trained). Defaults to
            "hp".
        positional_encoding: "peg" (the paper's) or "sam2" (its fixed encodings). Defaults to "peg".
        in_channels: channels of the images. 3 are taken as they are, 1 is repeated, others pass a trained 1 x 1
            convolution. Defaults to 3.
        out_channels: number of classes; 1 for a single sigmoid channel. Defaults to 2.
        checkpoint: SAM 2's weights: a path, or a name of the catalog such as "sam2.1_hiera_tiny", which is downloaded
            if it was not before. None leaves random weights. Defaults to None.
        freeze: parts of SAM 2 that are not trained, of "image_encoder", "prompt_encoder" and "mask_decoder". None
            stands for all of them, or for none of them with ``adapter="full"``. Defaults to None.
        adapter_config: settings of the adapter, see :class:`~monai_sam2adapter.networks.adapters.AdapterConfig`; of
            several, a list of them or a dictionary by name. Defaults to None.
        activation_checkpointing: recompute trunk blocks in the backward pass to save memory. Defaults to False.
        pad_windows: pad attention windows as sam2 does, with the same output; faster on a GPU, slower on a CPU.
            Defaults to None: on CUDA.
        output_stride: pixels in a step of the finest grid that the head sees: 4, or 2 or 1 for structures of few
            pixels, where two convolutions see the image, too; the logits are those of 4 at first. Defaults to 4.

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

    freezable_parts: ClassVar[tuple[str, ...]] = ("image_encoder", "prompt_encoder", "mask_decoder")
    head_name: ClassVar[str] = "class_head"
    image_encoder: SAM2ImageEncoder

    def __init__(
        self,
        variant: str = "tiny",
        adapter: str | Sequence[str] = "hp",
        positional_encoding: str = "peg",
        in_channels: int = 3,
        out_channels: int = 2,
        checkpoint: str | None = None,
        freeze: Sequence[str] | None = None,
        adapter_config: AdapterSettings = None,
        activation_checkpointing: bool = False,
        pad_windows: bool | None = None,
        output_stride: int = 4,
    ) -> None:
        look_up_option(positional_encoding, POSITIONAL_ENCODINGS)
        super().__init__(variant, adapter, in_channels, out_channels, freeze, adapter_config)
        self.image_encoder = SAM2ImageEncoder(variant, positional_encoding, activation_checkpointing, pad_windows)
        embed_dim = self.image_encoder.channels[-1]
        self.sam_prompt_encoder = EmptyPromptEncoder(embed_dim)
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, embed_dim))
        nn.init.trunc_normal_(self.no_mem_embed, std=0.02)
        self.output_stride = output_stride
        self.sam_mask_decoder = PromptFreeMaskDecoder(out_channels, output_stride)
        self.positional_encoding = PositionalEncodingGenerator(embed_dim) if positional_encoding == "peg" else None

        self._load_freeze_and_adapt(checkpoint, adapter, adapter_config)

    def _encode(self, image: torch.Tensor) -> list[torch.Tensor]:
        features = self.image_encoder(image)
        embedding = features[-1] + self.no_mem_embed.permute(0, 2, 1).unsqueeze(-1)
        return [*features[:-1], embedding]

    def init_head(self, token: torch.Tensor, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor]) -> None:
        """Start the class head from SAM 2's mask token and hyper-network, see :class:`PromptFreeMaskDecoder`."""
        self.sam_mask_decoder.init_head(token, weights, biases)

    def export_head(self) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
        """The head of class 0 as :meth:`init_head` takes it."""
        return self.sam_mask_decoder.export_head()

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters by part: SAM 2's parts without what was added to them, then each kind of added module."""
        groups = super().parameter_groups()
        groups["prompt_encoder"].append(self.no_mem_embed)
        return groups

    def _pretrained_parts(self) -> dict[str, list[nn.Module]]:
        return {
            "image_encoder": [self.image_encoder],
            "prompt_encoder": [self.sam_prompt_encoder],
            "mask_decoder": [self.sam_mask_decoder],
        }

    def _head_modules(self) -> list[nn.Module]:
        decoder = self.sam_mask_decoder
        return [
            decoder.class_tokens,
            decoder.class_hypernetworks,
            *([decoder.refinement] if decoder.refinement else []),
        ]
