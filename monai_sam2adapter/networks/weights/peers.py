# SPDX-License-Identifier: Apache-2.0
"""Weights that others released: whole networks of SAM2-UNet, SAM2-UNeXT and SAM3-UNet, and DINOv2."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from monai.utils import optional_import
from torch import nn

from ...utils.logs import escaping_logger
from .match import SAM2Net, check_variant, match_tensors
from .read import CheckpointMismatchError, existing_file, read_checkpoint, read_safetensors
from .vits import SAM3_ROTARY
from .wrappers import unwrap_network

__all__ = ["POSITIONS", "PeerLoadReport", "fit_positions", "load_dinov2_checkpoint", "load_peer_checkpoint"]

logger = escaping_logger(__name__)

_METHOD = "bottleneck"
_TRUNK = "image_encoder.trunk"
POSITIONS = "dino.model.pos_embed"
"""Name in a state dictionary of DINOv2's positions, the only tensor that depends on the size of its images."""
_LAYERS = {"0": "down", "2": "up"}
_ADVICE = (
    "The authors' networks have variant 'large', adapter 'bottleneck' with its default settings, in_channels 3 and "
    "out_channels 1, and dino_variant 'large' where there is one."
)
# what a file of DINOv2 has beside the patch embedding, the positions and the blocks: for training, and after the last
_DINOV2_UNUSED = ("mask_token", "norm.weight", "norm.bias", "head.weight", "head.bias")
_DINOV2_ADVICE = "Load timm's or Meta's own DINOv2 file of the variant, without registers."


class PeerNet(SAM2Net, Protocol):
    """A net that an author released weights for, under names that differ from ours in the trunk only."""

    #: the trunk's name in the authors' files
    peer_trunk: str
    #: beginnings of the names that the authors' files hold without using them
    peer_unused: tuple[str, ...]


@dataclass(frozen=True)
class PeerLoadReport:
    """
    What a file held and what became of it.

    Args:
        path: the file.
        loaded: our names of the tensors copied into the net.
        resized: our names of those among them that were interpolated to the net's image size.
        unused: the authors' names of the tensors that nothing uses.
    """

    path: Path
    loaded: tuple[str, ...]
    resized: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.path}: {len(self.loaded)} tensors loaded, {len(self.resized)} of them resized, "
            f"{len(self.unused)} unused"
        )


def load_peer_checkpoint(net: PeerNet, path: str | os.PathLike[str]) -> PeerLoadReport:
    """
    Load a whole network that the authors of SAM2-UNet, SAM2-UNeXT or SAM3-UNet trained, by their own names.

    All checks come first: after an error the net is as it was. The file's name becomes ``net.base_checkpoint``.

    Args:
        net: a :class:`~monai_sam2adapter.networks.nets.SAM2UNet`,
            :class:`~monai_sam2adapter.networks.nets.SAM2UNeXT` or
            :class:`~monai_sam2adapter.networks.nets.SAM3UNet`, changed in place.
        path: the file.

    Returns:
        which tensors were loaded and which left.

    Raises:
        FileNotFoundError: when there is no such file.
        UnsafeCheckpointError: when the file holds more than tensors and plain containers.
        CheckpointFormatError: when the file is truncated, damaged, or no checkpoint.
        CheckpointMismatchError: when the file is of another network, or the net has other options than the authors'.
    """
    path = existing_file(path, "there is no file {}; give a file that the authors released.")
    net = unwrap_network(net)
    _check_adapter(net)
    saved = read_checkpoint(path)
    unused = sorted(name for name in saved if name.startswith(net.peer_unused) or name.endswith(SAM3_ROTARY))
    tensors = {_our_name(name, net.peer_trunk): saved[name] for name in saved.keys() - set(unused)}
    own = net.state_dict()
    resized = fit_positions(tensors, own, POSITIONS)
    check_variant(tensors, own, path)
    match_tensors(tensors, own, path, "the authors' file", _ADVICE)
    net.load_state_dict(tensors)
    net.base_checkpoint = path.stem
    if hasattr(net, "dino_checkpoint"):
        net.dino_checkpoint = path.stem
    report = PeerLoadReport(path, tuple(sorted(tensors)), resized, tuple(unused))
    logger.info(str(report))
    return report


def load_dinov2_checkpoint(net: nn.Module, path: str | os.PathLike[str]) -> None:
    """
    Load DINOv2's weights into the module that :func:`~monai_sam2adapter.networks.nets.build_dinov2` makes.

    Positions of another image size are interpolated as timm does. All checks come first: after an error the net is as
    it was.

    Args:
        net: module to load into, changed in place.
        path: a file of timm (``.safetensors`` or ``.bin``) or of Meta (``.pth``).

    Raises:
        FileNotFoundError: when there is no such file.
        UnsafeCheckpointError: when the file holds more than tensors and plain containers.
        CheckpointFormatError: when the file is truncated, damaged, or no checkpoint.
        CheckpointMismatchError: when the file is of another variant or network.
    """
    path = existing_file(path, "there is no file {}; give DINOv2's weights, or 'timm' to download them.")
    if path.suffix == ".safetensors":
        _, saved = read_safetensors(path, "safetensors file", "Get it again.")
    else:
        saved = read_checkpoint(path)
    tensors = {f"model.{name}": tensor for name, tensor in saved.items() if name not in _DINOV2_UNUSED}
    own = net.state_dict()
    fit_positions(tensors, own, "model.pos_embed")
    match_tensors(tensors, own, path, "DINOv2", _DINOV2_ADVICE)
    net.load_state_dict(tensors)


def _check_adapter(net: PeerNet) -> None:
    """The scale of an adapter is no tensor, so that shapes would not tell a wrong one."""
    config = net.config
    if config["adapter"] != _METHOD or config["adapter_config"]["scale"] != 1:
        raise CheckpointMismatchError(
            f"the net has adapter {config['adapter']!r} with settings {config['adapter_config']}. {_ADVICE}"
        )


def _our_name(name: str, trunk: str) -> str:
    """Take the authors' wrapper around each block out of a name, and put the trunk where SAM 2's files have it."""
    if not name.startswith(f"{trunk}."):
        return name
    name = _TRUNK + name.removeprefix(trunk)
    name = re.sub(r"(\.blocks\.\d+)\.block\.", r"\1.", name)
    return re.sub(
        r"(\.blocks\.\d+)\.prompt_learn\.([02])\.",
        lambda match: f"{match[1]}.adapters.{_METHOD}.{_LAYERS[match[2]]}.",
        name,
    )


def fit_positions(tensors: dict[str, torch.Tensor], own: Mapping[str, torch.Tensor], name: str) -> tuple[str, ...]:
    """Interpolate DINOv2's positions ``(1, 1 + n * n, C)`` to another image size, as timm does; name what changed."""
    if name not in tensors or name not in own or tensors[name].ndim != 3 or tensors[name].shape == own[name].shape:
        return ()
    side, wanted = (math.isqrt(max(positions.shape[1] - 1, 0)) for positions in (tensors[name], own[name]))
    if side == 0 or side * side + 1 != tensors[name].shape[1]:
        return ()
    resample, _ = optional_import("timm.layers", name="resample_abs_pos_embed")
    tensors[name] = resample(tensors[name], [wanted, wanted], num_prefix_tokens=1)
    return (name,)
