# SPDX-License-Identifier: Apache-2.0
"""Loading of DINOv2's weights into timm's model, strictly."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from monai.utils import optional_import
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from .checks import check_tensors
from .errors import CheckpointFormatError, CheckpointMismatchError
from .reading import enumerate_some, read_checkpoint

__all__ = ["fit_positions", "load_dinov2_checkpoint"]

# what a file has beside the patch embedding, the positions and the blocks: for training, and after the last block
_UNUSED = ("mask_token", "norm.weight", "norm.bias", "head.weight", "head.bias")
_POSITIONS = "pos_embed"
_ADVICE = "Load timm's or Meta's own DINOv2 file of the variant, without registers."


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
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give DINOv2's weights, or 'timm' to download them.")
    tensors = {f"model.{name}": tensor for name, tensor in _read(path).items() if name not in _UNUSED}
    own = net.state_dict()
    positions = f"model.{_POSITIONS}"
    if positions in tensors:
        tensors[positions] = fit_positions(tensors[positions], own[positions])
    unknown = sorted(tensors.keys() - own.keys())
    if unknown:
        raise CheckpointMismatchError(
            f"{path} has {len(unknown)} tensors that DINOv2 has not: {enumerate_some(unknown)}. {_ADVICE}"
        )
    check_tensors(tensors, {name: tuple(tensor.shape) for name, tensor in own.items()}, path, "DINOv2", _ADVICE)
    net.load_state_dict(tensors)


def fit_positions(saved: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """
    Interpolate DINOv2's position embedding to another image size, as timm does.

    Args:
        saved: ``(1, 1 + n * n, C)``.
        own: a tensor of the wanted size, ``(1, 1 + m * m, C)``.

    Returns:
        ``(1, 1 + m * m, C)``; ``saved`` itself where the two are of one size, or it is no embedding of a square.
    """
    side, wanted = (math.isqrt(max(tensor.shape[1] - 1, 0)) for tensor in (saved, own)) if saved.ndim == 3 else (0, 0)
    if saved.shape == own.shape or side == 0 or side * side + 1 != saved.shape[1]:
        return saved
    resample, _ = optional_import("timm.layers", name="resample_abs_pos_embed")
    return resample(saved, [wanted, wanted], num_prefix_tokens=1)


def _read(path: Path) -> Mapping[str, torch.Tensor]:
    if path.suffix != ".safetensors":
        return read_checkpoint(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointFormatError(f"{path} is no safetensors file, or damaged ({error}). Get it again.") from error
