# SPDX-License-Identifier: Apache-2.0
"""Loading the files that the authors of SAM2-UNet and SAM2-UNeXT released."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from .checks import check_tensors, check_variant
from .dinov2_weights import fit_positions
from .errors import CheckpointMismatchError
from .reading import enumerate_some, read_checkpoint
from .sam2_net import SAM2Net

__all__ = ["PeerLoadReport", "load_peer_checkpoint"]

logger = logging.getLogger(__name__)

_METHOD = "bottleneck"
_TRUNK = "image_encoder.trunk"
_POSITIONS = "dino.model.pos_embed"
_LAYERS = {"0": "down", "2": "up"}
_ADVICE = (
    "The authors' networks have variant 'large', adapter 'bottleneck' with its default settings, in_channels 3 and "
    "out_channels 1, and dino_variant 'large' where there is one."
)


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
    Load a whole network that the authors of SAM2-UNet or SAM2-UNeXT trained, by their own names.

    All checks come first: after an error the net is as it was. The file's name becomes ``net.base_checkpoint``.

    Args:
        net: a :class:`~monai_sam2adapter.networks.nets.SAM2UNet` or
            :class:`~monai_sam2adapter.networks.nets.SAM2UNeXT`, changed in place.
        path: the file.

    Returns:
        which tensors were loaded and which left.

    Raises:
        FileNotFoundError: when there is no such file.
        UnsafeCheckpointError: when the file holds more than tensors and plain containers.
        CheckpointFormatError: when the file is truncated, damaged, or no checkpoint.
        CheckpointMismatchError: when the file is of another network, or the net has other options than the authors'.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give a file that the authors released.")
    _check_adapter(net)
    saved = read_checkpoint(path)
    unused = sorted(name for name in saved if name.startswith(net.peer_unused))
    tensors = {_our_name(name, net.peer_trunk): saved[name] for name in saved.keys() - set(unused)}
    own = net.state_dict()
    resized = _fit_positions(tensors, own)
    check_variant(tensors, own, path)
    check_tensors(tensors, {name: tuple(own[name].shape) for name in own}, path, "the authors' file", _ADVICE)
    unknown = sorted(tensors.keys() - own.keys())
    if unknown:
        raise CheckpointMismatchError(
            f"{path} has {len(unknown)} tensors that the net has not: {enumerate_some(unknown)}. {_ADVICE}"
        )
    net.load_state_dict(tensors)
    net.base_checkpoint = path.stem
    if hasattr(net, "dino_checkpoint"):
        net.dino_checkpoint = path.stem
    report = PeerLoadReport(path, tuple(sorted(tensors)), resized, tuple(unused))
    logger.info(str(report))
    return report


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


def _fit_positions(tensors: dict[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """Interpolate DINOv2's positions in place, and name what was changed."""
    if _POSITIONS not in tensors or _POSITIONS not in own:
        return ()
    saved = tensors[_POSITIONS]
    tensors[_POSITIONS] = fit_positions(saved, own[_POSITIONS])
    return () if tensors[_POSITIONS] is saved else (_POSITIONS,)
