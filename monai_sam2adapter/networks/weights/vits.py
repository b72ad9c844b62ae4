# SPDX-License-Identifier: Apache-2.0
"""Weights of the encoders that take the place of SAM 2's: DINOv3's and SAM 3's files, loaded strictly."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .match import match_tensors
from .read import existing_file, read_checkpoint, read_safetensors

__all__ = ["SAM3_ROTARY", "load_dinov3_checkpoint", "load_sam3_checkpoint"]

_PEG = "positional_encoding."
_ADAPTERS = ".adapters."
_DINOV3_UNUSED = ("head.", "fc_norm.")
_SAM3_VISION = "detector.backbone.vision_backbone."
# our places of the parts that are taken; of the two necks that of the mask decoder
_SAM3_PARTS = {"trunk.": "image_encoder.trunk.", "sam2_convs.": "neck.convs."}
SAM3_ROTARY = ".freqs_cis"
"""Ends of the names of rotary factors, which are computed here, for every size."""
_SAM3_COARSEST = "sam2_convs.3."  # of stride 28, of which nothing is made


def load_dinov3_checkpoint(trunk: nn.Module, path: str | os.PathLike[str]) -> None:
    """
    Load DINOv3's weights. All checks come first: after an error the trunk is as it was.

    Args:
        trunk: a :class:`~monai_sam2adapter.networks.nets.DINOv3Trunk`, changed in place.
        path: a file of timm (``.safetensors`` or ``.bin``) of the same variant.

    Raises:
        FileNotFoundError: when there is no such file.
        UnsafeCheckpointError: when the file holds more than tensors and plain containers.
        CheckpointFormatError: when the file is truncated, damaged, or no checkpoint.
        CheckpointMismatchError: when the file is of another variant or network.
    """
    path = existing_file(path, "there is no file {}; give DINOv3's weights, or 'timm' to download them.")
    tensors = {name: tensor for name, tensor in _read(path).items() if not name.startswith(_DINOV3_UNUSED)}
    own = {name: tensor for name, tensor in trunk.state_dict().items() if not _is_added(name)}
    match_tensors(tensors, own, path, "DINOv3", "Load timm's own file of the variant, vit_*_patch16_dinov3.")
    trunk.load_state_dict(tensors, strict=False)


def load_sam3_checkpoint(net: nn.Module, path: str | os.PathLike[str]) -> None:
    """
    Load the trunk of SAM 3's image encoder, and the neck that feeds its mask decoder, if the network has one.

    All checks come first: after an error the network is as it was. What else is in the file, SAM 3's detector and
    tracker, is left.

    Args:
        net: a network with a :class:`~monai_sam2adapter.networks.nets.SAM3Trunk` as ``image_encoder.trunk``, and
            perhaps a :class:`~monai_sam2adapter.networks.blocks.SimpleFeaturePyramid` as ``neck``; changed in place.
        path: Meta's file, ``sam3.pt``.

    Raises:
        FileNotFoundError: when there is no such file.
        UnsafeCheckpointError: when the file holds more than tensors and plain containers.
        CheckpointFormatError: when the file is truncated, damaged, or no checkpoint.
        CheckpointMismatchError: when the file is of another network.
    """
    path = existing_file(path, "there is no file {}; give SAM 3's own sam3.pt.")
    own = {
        name: tensor
        for name, tensor in net.state_dict().items()
        if name.startswith(tuple(_SAM3_PARTS.values())) and not _is_added(name)
    }
    tensors = {}
    for name, tensor in _read(path).items():
        short = name.removeprefix(_SAM3_VISION)
        part = next((part for part in _SAM3_PARTS if short.startswith(part)), None)
        if short == name or part is None or short.endswith(SAM3_ROTARY) or short.startswith(_SAM3_COARSEST):
            continue
        if part == "trunk." or any(key.startswith(_SAM3_PARTS[part]) for key in own):
            tensors[_SAM3_PARTS[part] + short.removeprefix(part)] = tensor
    match_tensors(tensors, own, path, "SAM 3", "Load SAM 3's own sam3.pt.")
    net.load_state_dict(tensors, strict=False)


def _read(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        return read_safetensors(path, "safetensors file", "Get it again.")[1]
    return dict[str, torch.Tensor](read_checkpoint(path))


def _is_added(name: str) -> bool:
    """Whether a name is of PEG or of an adapter, which no file of an encoder has."""
    return _PEG in name or _ADAPTERS in name
