# SPDX-License-Identifier: Apache-2.0
"""The prompt-free network with a plain vision transformer in the place of SAM 2's image encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from monai.utils import look_up_option
from torch import nn

from ..blocks import PositionalEncodingGenerator, SimpleFeaturePyramid
from .adapter_options import AdapterSettings
from .dinov3 import DINOv3Trunk
from .empty_prompt_encoder import EmptyPromptEncoder
from .mask_decoder import PromptFreeMaskDecoder
from .prompt_free import PromptFreeNetwork
from .sam3 import SAM3Trunk
from .vit import ViTTrunk

__all__ = ["VIT_ENCODERS", "PromptFreeViT"]

#: the trunks by the names of the encoders, and what these are called in messages
VIT_ENCODERS: dict[str, type[ViTTrunk]] = {"dinov3": DINOv3Trunk, "sam3": SAM3Trunk}
_NAMES = {"dinov3": "DINOv3", "sam3": "SAM 3"}
_EMBED_DIM = 256


class PromptFreeViT(PromptFreeNetwork):
    """
    A frozen DINOv3 or SAM 3 image encoder with trained adapters, a feature pyramid, and SAM 2's mask decoder by
    classes.

    The encoder's last map becomes maps at a quarter, a half and the whole of its stride. Pyramid and decoder are
    trained from the start, since SAM 2's weights do not fit them; SAM 3's pyramid is its own neck, and frozen with its
    trunk. The network takes images of any size from 32 x 32 pixels, as
    :class:`~monai_sam2adapter.networks.nets.PromptFreeSAM2` does, padded to multiples of 16 (SAM 3: 14) inside.

    All adapters fit. Those that mix neighbors ("hp", "lw", "sm_adaptformer", "conv_lora") see the map of the patches,
    those that look at each token by itself DINOv3's class and register tokens, too.

    Args:
        variant: size of the encoder: of DINOv3 "small", "base" or "large", of SAM 3 "large". None stands for the first
            of them. Defaults to None.
        adapter: a registered method, a list of several, "none" (only pyramid and decoder are trained) or "full" (no
            adapter, all weights are trained). Defaults to "hp".
        positional_encoding: "peg" adds a position code behind the first block, and in the decoder; "rope" leaves the
            encoder its own positions alone, which are rotary and stay in any case, and the decoder has SAM 2's fixed
            ones. Defaults to "peg".
        in_channels: channels of the images. 3 are taken as they are, 1 is repeated, others pass a trained 1 x 1
            convolution. Defaults to 3.
        out_channels: number of classes; 1 for a single sigmoid channel. Defaults to 2.
        checkpoint: the encoder's weights: the path of its file (DINOv3: timm's, SAM 3: Meta's), or "timm" to let timm
            download DINOv3's. None leaves random weights. Defaults to None.
        freeze: parts that are not trained, of "image_encoder". None stands for it, or for nothing with
            ``adapter="full"``. Defaults to None.
        adapter_config: settings of the adapter; of several, a list of them or a dictionary by name. Defaults to None.
        activation_checkpointing: recompute trunk blocks in the backward pass to save memory. Defaults to False.
        output_stride: see :class:`~monai_sam2adapter.networks.nets.PromptFreeSAM2`; SAM 3's is 4 (in fact 3.5), since
            14 pixels have no half of a half. Defaults to 4.
        encoder: "dinov3" or "sam3". Defaults to "dinov3".

    Raises:
        ValueError: when an option is unknown or does not go with another one.
        ImportError: when timm is missing, which DINOv3 needs.

    Example:
        >>> import torch
        >>> from monai_sam2adapter.networks.nets import PromptFreeViT
        >>> net = PromptFreeViT("small", "lora", in_channels=1, out_channels=4).eval()
        >>> with torch.no_grad():
        ...     net(torch.rand(1, 1, 100, 75)).shape
        torch.Size([1, 4, 100, 75])
    """

    freezable_parts: ClassVar[tuple[str, ...]] = ("image_encoder",)
    own_positions = "rope"

    def __init__(
        self,
        variant: str | None = None,
        adapter: str | Sequence[str] = "hp",
        positional_encoding: str = "peg",
        in_channels: int = 3,
        out_channels: int = 2,
        checkpoint: str | None = None,
        freeze: Sequence[str] | None = None,
        adapter_config: AdapterSettings = None,
        activation_checkpointing: bool = False,
        output_stride: int = 4,
        encoder: str = "dinov3",
    ) -> None:
        trunk_class = VIT_ENCODERS[look_up_option(encoder, VIT_ENCODERS.keys())]
        self.encoder = encoder
        self.variants, self.size_divisor = trunk_class.variants, trunk_class.patch_size
        self.base_name, self.base_advice = _NAMES[encoder], trunk_class.advice
        variant = trunk_class.variants[0] if variant is None else variant
        super().__init__(variant, adapter, in_channels, out_channels, freeze, adapter_config)
        if output_stride not in trunk_class.output_strides:
            known = ", ".join(map(str, trunk_class.output_strides))
            raise ValueError(f"output_stride of encoder {encoder} must be one of {known}, got {output_stride!r}.")
        trunk = trunk_class(variant, positional_encoding, activation_checkpointing)  # type: ignore[call-arg, arg-type]
        self.image_encoder = nn.ModuleDict({"trunk": trunk})
        self.neck = SimpleFeaturePyramid(trunk.channels[-1], _EMBED_DIM, norms=not trunk.has_neck)
        self.sam_prompt_encoder = EmptyPromptEncoder(_EMBED_DIM)
        self.output_stride = output_stride
        self.sam_mask_decoder = PromptFreeMaskDecoder(out_channels, output_stride)
        self.positional_encoding = PositionalEncodingGenerator(_EMBED_DIM) if positional_encoding == "peg" else None

        self._load_freeze_and_adapt(checkpoint, adapter, adapter_config)

    @property
    def config(self) -> dict[str, Any]:
        """The settings that define the network's weights, as JSON can hold them."""
        return {"encoder": self.encoder, **super().config}

    def _encode(self, image: torch.Tensor) -> list[torch.Tensor]:
        return self.neck(self.image_encoder.trunk(image)[-1])

    def _pretrained_parts(self) -> dict[str, list[nn.Module]]:
        neck = [self.neck] if self.image_encoder.trunk.has_neck else []
        return {"image_encoder": [self.image_encoder, *neck]}
