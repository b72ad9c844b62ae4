# SPDX-License-Identifier: Apache-2.0
"""Loading what a training run saved into a network for evaluation and inference."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch

from .errors import CheckpointMismatchError
from .reading import enumerate_some, guess_variant, read_checkpoint
from .sam2_net import SAM2Net

__all__ = ["INPUT_CHANNELS", "load_network_weights"]

INPUT_CHANNELS = "input_channels"
"""Name in a state dictionary of the number of channels that the network takes."""

_ADAPTER = re.compile(r"\.adapters\.([a-z0-9_]+)\.")
_DINO = "dino.model.pos_embed"
_DINO_WIDTHS = {384: "small", 768: "base", 1024: "large"}
_DINO_PATCH = 14
_CLASS_TOKENS = "sam_mask_decoder.class_tokens.weight"


def load_network_weights(net: SAM2Net, path: str | os.PathLike[str]) -> None:
    """
    Load the state dictionary of a whole trained network, such as a bundle's ``models/model.pt``, strictly.

    Args:
        net: network with the options of the saved one, changed in place.
        path: the file.

    Raises:
        FileNotFoundError: when there is no such file.
        UnsafeCheckpointError: when the file holds more than tensors and plain containers.
        CheckpointFormatError: when the file is truncated, damaged, or no checkpoint.
        CheckpointMismatchError: when the file is of a network with other options; the message names those of the file.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there are no trained weights at {path}; train first, or give another file.")
    saved = read_checkpoint(path)
    own = net.state_dict()
    differing = sorted(name for name in own.keys() | saved.keys() if _mark(own, name) != _mark(saved, name))
    if differing:
        raise CheckpointMismatchError(
            f"{path} is of a network with {_describe(saved)}, this one has {_describe(own)}; give the options that it "
            f"was trained with. {len(differing)} tensors differ: {enumerate_some(differing)}."
        )
    net.load_state_dict(saved)
    net.base_checkpoint = f"the one in {path.name}"  # the file does not tell its name


def _mark(tensors: Mapping[str, torch.Tensor], name: str) -> torch.Size | int | None:
    """What has to be the same in the file and in the network."""
    if name not in tensors:
        return None
    return int(tensors[name]) if name == INPUT_CHANNELS else tensors[name].shape


def _describe(tensors: Mapping[str, torch.Tensor]) -> str:
    """The options that can be read off a state dictionary, spelled as a bundle's keys."""
    adapters = sorted({match.group(1) for match in map(_ADAPTER.search, tensors) if match})
    peg = "image_encoder.trunk.positional_encoding.conv.weight" in tensors
    parts = [
        f"variant {guess_variant(tensors) or 'unknown'}",
        f"adapter {' and '.join(adapters) or 'none or full'}",
        _describe_dinov2(tensors[_DINO]) if _DINO in tensors else f"positional_encoding {'peg' if peg else 'sam2'}",
    ]
    if _CLASS_TOKENS in tensors:
        parts.append(f"{len(tensors[_CLASS_TOKENS])} classes")
    if INPUT_CHANNELS in tensors:
        channels = int(tensors[INPUT_CHANNELS])
        neighbors = f" (num_neighbors {channels // 2} in a bundle for volumes)" if channels % 2 else ""
        parts.append(f"in_channels {channels}{neighbors}")
    return ", ".join(parts)


def _describe_dinov2(positions: torch.Tensor) -> str:
    """Its options, from an embedding of one class token and a square of patches."""
    size = _DINO_PATCH * math.isqrt(max(positions.shape[1] - 1, 0))
    return f"dino_variant {_DINO_WIDTHS.get(positions.shape[2], 'unknown')}, dino_size {size}"
