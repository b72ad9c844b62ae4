# SPDX-License-Identifier: Apache-2.0
"""The encoders of the prompt-free network, by their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.utils import look_up_option

from .adapter_options import AdapterSettings
from .hiera import POSITIONAL_ENCODINGS
from .mask_decoder import OUTPUT_STRIDES
from .prompt_free import PromptFreeNetwork
from .prompt_free_sam2 import PromptFreeSAM2
from .prompt_free_vit import VIT_ENCODERS, PromptFreeViT
from .sam2_config import SAM2_VARIANTS
from .vit import VIT_POSITIONAL_ENCODINGS

__all__ = ["ENCODER_VARIANTS", "build_prompt_free", "check_encoder_options", "default_variant"]

#: the sizes of each encoder, the default first
ENCODER_VARIANTS: dict[str, tuple[str, ...]] = {
    "sam2": tuple(SAM2_VARIANTS),
    **{name: trunk.variants for name, trunk in VIT_ENCODERS.items()},
}


def default_variant(encoder: str) -> str:
    """
    The size that an encoder has where none is given.

    Raises:
        ValueError: when the encoder is unknown.
    """
    return ENCODER_VARIANTS[look_up_option(encoder, ENCODER_VARIANTS.keys())][0]


def check_encoder_options(encoder: str, variant: str, positional_encoding: str, output_stride: int) -> None:
    """
    Check what depends on the encoder.

    Raises:
        ValueError: when an option is unknown, or none of this encoder.
    """
    variants = ENCODER_VARIANTS[look_up_option(encoder, ENCODER_VARIANTS.keys())]
    positions = POSITIONAL_ENCODINGS if encoder == "sam2" else VIT_POSITIONAL_ENCODINGS
    strides = OUTPUT_STRIDES if encoder == "sam2" else VIT_ENCODERS[encoder].output_strides
    values = {"variant": variant, "positional_encoding": positional_encoding, "output_stride": output_stride}
    for (name, value), choices in zip(values.items(), (variants, positions, strides), strict=True):
        if value not in choices:
            known = ", ".join(map(str, choices))
            raise ValueError(
                f"{name} of encoder {encoder} must be one of {known}, got {value!r}; write --{name} {choices[0]}"
            )


def build_prompt_free(
    encoder: str = "sam2",
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
) -> PromptFreeNetwork:
    """
    Build the prompt-free network with one of the encoders; what the bundles have as ``network_def``.

    Args:
        encoder: "sam2", "dinov3" or "sam3". Defaults to "sam2".
        variant: size of the encoder; None stands for its smallest. Defaults to None.
        adapter: see the networks, as for all that follows. Defaults to "hp".
        positional_encoding: "peg", or the encoder's own: "sam2" of SAM 2, "rope" of the others. Defaults to "peg".
        in_channels: channels of the images. Defaults to 3.
        out_channels: number of classes. Defaults to 2.
        checkpoint: the encoder's weights. Defaults to None.
        freeze: parts that are not trained. Defaults to None.
        adapter_config: settings of the adapter. Defaults to None.
        activation_checkpointing: recompute trunk blocks in the backward pass. Defaults to False.
        output_stride: 4, 2 or 1. Defaults to 4.

    Returns:
        a :class:`~monai_sam2adapter.networks.nets.PromptFreeSAM2`, or a
        :class:`~monai_sam2adapter.networks.nets.PromptFreeViT`.

    Raises:
        ValueError: when an option is unknown, none of this encoder, or does not go with another one.
        ImportError: when timm is missing, which DINOv3 needs.
    """
    variant = default_variant(encoder) if variant is None else variant
    check_encoder_options(encoder, variant, positional_encoding, output_stride)
    options: dict[str, Any] = {
        "variant": variant,
        "adapter": adapter,
        "positional_encoding": positional_encoding,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "checkpoint": checkpoint,
        "freeze": freeze,
        "adapter_config": adapter_config,
        "activation_checkpointing": activation_checkpointing,
        "output_stride": output_stride,
    }
    return PromptFreeSAM2(**options) if encoder == "sam2" else PromptFreeViT(encoder=encoder, **options)
