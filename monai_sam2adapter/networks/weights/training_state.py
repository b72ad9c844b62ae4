# SPDX-License-Identifier: Apache-2.0
"""The file that a training run is resumed from: what it holds, and the frozen weights that it names by a checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .wrappers import unwrap_names

__all__ = ["TRAINING_STATE_FORMAT", "read_training_state", "tensors_sha256"]

TRAINING_STATE_FORMAT = 2
"""In format 1 the frozen parameters stand among the others."""


def read_training_state(path: Path) -> dict[str, Any]:
    """
    Read the ``last.pt`` of a training run.

    Args:
        path: an existing file.

    Returns:
        its content; the names of the network's tensors are bare.

    Raises:
        ValueError: when it cannot be read, or is no such file.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises anything from EOFError to UnpicklingError
        raise ValueError(f"{path} is no checkpoint, or a damaged one, and cannot be read: {error}") from error
    if not isinstance(saved, dict) or saved.get("format") not in (1, TRAINING_STATE_FORMAT):
        raise ValueError(f"{path} is not a checkpoint of a training run; give the output_dir of the run to resume.")
    return {**saved, "network": unwrap_names(saved["network"])}


def tensors_sha256(tensors: Mapping[str, torch.Tensor], end: str = "") -> str:
    """
    SHA-256 over names, types, shapes and values of tensors, the same on every device.

    Args:
        tensors: the tensors by their names, in any order.
        end: what is written behind each shape; adapter files have a line's end there. Defaults to nothing.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}{end}".encode())
        # reshape brings any memory layout into one order; as bytes, since numpy has no bfloat16
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
