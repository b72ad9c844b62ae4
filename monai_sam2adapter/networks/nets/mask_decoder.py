# SPDX-License-Identifier: Apache-2.0
"""SAM 2's mask decoder with one token per class in place of prompts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from sam2.modeling.sam.mask_decoder import MaskDecoder
from sam2.modeling.sam.transformer import TwoWayTransformer
from torch import nn

from ..blocks import DetailRefinement
from ..layers import BatchedMLP

__all__ = ["OUTPUT_STRIDES", "PromptFreeMaskDecoder"]

#: pixels of the image in a step of the grid that the head ends in
OUTPUT_STRIDES = (4, 2, 1)

# As sam2's SAM2Base builds its decoder, which its YAML files leave out.
_EMBED_DIM, _DEPTH, _MLP_DIM, _NUM_HEADS = 256, 2, 2048, 8
# sam2's heads that need a prompt or choose among masks of one object.
_UNUSED = (
    "iou_token",
    "mask_tokens",
    "obj_score_token",
    "output_hypernetworks_mlps",
    "iou_prediction_head",
    "pred_obj_score_head",
)


class PromptFreeMaskDecoder(MaskDecoder):
    """
    SAM 2's two-way transformer and upscaling, driven by learned class tokens instead of prompts.

    Each class has a token and a hyper-network, which turns the token that comes out of the transformer into the weights
    of a 1 x 1 convolution over the upscaled image embedding. The hyper-networks of all classes run as one batched
    product.

    Source: ``sam2/modeling/sam/mask_decoder.py`` (Apache-2.0); class tokens as in arXiv:2605.05979.

    Args:
        out_channels: number of classes ``K``; 1 for a single sigmoid channel.
        output_stride: pixels in a step of the finest grid that the classes' kernels see: 4, SAM 2's, or 2 or 1, where
            :class:`~monai_sam2adapter.networks.blocks.DetailRefinement` adds to it. Defaults to 4.

    Raises:
        ValueError: when ``out_channels`` is below 1, or ``output_stride`` is another number.
    """

    def __init__(self, out_channels: int, output_stride: int = 4) -> None:
        if out_channels < 1:
            raise ValueError(f"out_channels must be at least 1, got {out_channels}.")
        if output_stride not in OUTPUT_STRIDES:
            raise ValueError(f"output_stride must be one of {OUTPUT_STRIDES}, got {output_stride!r}.")
        transformer = TwoWayTransformer(_DEPTH, _EMBED_DIM, _NUM_HEADS, _MLP_DIM)
        super().__init__(
            transformer_dim=_EMBED_DIM, transformer=transformer, use_high_res_features=True, pred_obj_scores=True
        )
        for name in _UNUSED:
            delattr(self, name)
        self.class_tokens = nn.Embedding(out_channels, _EMBED_DIM)
        self.class_hypernetworks = BatchedMLP(out_channels, (_EMBED_DIM, _EMBED_DIM, _EMBED_DIM, _EMBED_DIM // 8))
        refined = {"channels": _EMBED_DIM // 8, "in_channels": 3, "scale": 4 // output_stride, "stride": output_stride}
        self.refinement = DetailRefinement(**refined) if output_stride < 4 else None

    @torch.no_grad()
    def init_head(self, token: torch.Tensor, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor]) -> None:
        """
        Start every class from SAM 2's mask token and its hyper-network. Training tells the classes apart from the first
        step.

        Args:
            token: ``(256,)``.
            weights: of the hyper-network's three layers, ``(C_out, C_in)`` each.
            biases: ``(C_out,)`` each.

        Raises:
            ValueError: when the shapes do not fit.
        """
        if token.shape != (_EMBED_DIM,):
            raise ValueError(f"the mask token has shape {tuple(token.shape)}, expected ({_EMBED_DIM},).")
        self.class_hypernetworks.copy_from(weights, biases)
        self.class_tokens.weight.copy_(token.expand_as(self.class_tokens.weight))

    def export_head(self) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
        """The token, weights and biases of class 0, as :meth:`init_head` takes them."""
        networks = self.class_hypernetworks
        weights, biases = ([p[0].detach() for p in layers] for layers in (networks.weights, networks.biases))
        return self.class_tokens.weight[0].detach(), weights, biases

    def forward(
        self, embedding: torch.Tensor, positions: torch.Tensor, skips: Sequence[torch.Tensor], image: torch.Tensor
    ) -> torch.Tensor:
        """
        Args:
            embedding: image embedding at stride 16, ``(B, 256, H, W)``.
            positions: its position encoding, ``(B, 256, H, W)``.
            skips: the encoder's maps at strides 4 and 8, ``(B, 256, 4 H, 4 W)`` and ``(B, 256, 2 H, 2 W)``.
            image: ``(B, 3, 16 H, 16 W)``; looked at where ``output_stride`` is below 4.

        Returns:
            logits, ``(B, K, 16 H, 16 W)``, interpolated from their grids.
        """
        tokens = self.class_tokens.weight.expand(embedding.shape[0], -1, -1)
        tokens, flat = self.transformer(embedding, positions, tokens)
        upconv1, norm, act1, upconv2, act2 = self.output_upscaling
        x = flat.transpose(1, 2).reshape_as(embedding)  # (B, H * W, C) -> (B, C, H, W)
        x = act1(norm(upconv1(x) + self.conv_s1(skips[1])))
        x = act2(upconv2(x) + self.conv_s0(skips[0]))
        kernels = self.class_hypernetworks(tokens)  # (B, K, C / 8)
        logits = _apply(kernels, x, image)
        return logits if self.refinement is None else logits + _apply(kernels, self.refinement(x, image), image)


def _apply(kernels: torch.Tensor, features: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """The product at each place, interpolated to the size of the image."""
    logits = (kernels @ features.flatten(2)).unflatten(2, features.shape[2:])
    return F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=False)
