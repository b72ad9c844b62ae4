# SPDX-License-Identifier: Apache-2.0
"""Reading files of weights without trusting them."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .errors import CheckpointFormatError, UnsafeCheckpointError

__all__ = ["enumerate_some", "guess_variant", "read_checkpoint"]

# (channels after the patch embedding, number of blocks) of the four Hiera trunks
_TRUNKS = {(96, 12): "tiny", (96, 16): "small", (112, 24): "base_plus", (144, 48): "large"}
_PATCH_EMBEDDING = "image_encoder.trunk.patch_embed.proj.weight"
_BLOCK = re.compile(r"image_encoder\.trunk\.blocks\.(\d+)\.")

_LISTED = 5  # names written out in a message


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """
    Read the tensors of a file that PyTorch wrote, by their names.

    Args:
        path: an existing file; its tensors bare or below "model" or "state_dict", with or without the prefix
            ``module.``.

    Returns:
        the tensors on the CPU.

    Raises:
        UnsafeCheckpointError: when the file holds more than tensors and plain containers.
        CheckpointFormatError: when the file is truncated, damaged, or no checkpoint.
    """
    return _unwrap(_load(path), path)


def guess_variant(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Tell SAM 2's variant from the shapes of the trunk; None when they are of no variant."""
    if _PATCH_EMBEDDING not in tensors:
        return None
    blocks = {match.group(1) for match in map(_BLOCK.match, tensors) if match}
    return _TRUNKS.get((tensors[_PATCH_EMBEDDING].shape[0], len(blocks)))


def enumerate_some(items: list[str]) -> str:
    """Write the first items out and count the rest."""
    rest = len(items) - _LISTED
    return ", ".join(items[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")


def _load(path: Path) -> Any:
    _check_format(path)
    try:
        # Mapped, so that a large file is not held in memory beside the net that its tensors are copied into.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        found = ", ".join(sorted(set(re.findall(r"GLOBAL (\S+)", str(error))))) or "objects of Python"
        raise UnsafeCheckpointError(
            f"{path} is unsafe and was not opened: besides tensors and plain containers it holds {found}, and a file "
            f"that does can run code when it is opened. Get a file with nothing but weights, such as SAM 2's own."
        ) from error
    except Exception as error:  # a damaged pickle can end in any exception
        raise CheckpointFormatError(f"{path} is truncated or damaged ({error}). Get it again.") from error


def _check_format(path: Path) -> None:
    """Tell by the first bytes what torch.load would only meet with one of many errors."""
    with path.open("rb") as file:
        head = file.read(9)
    if not head:
        raise CheckpointFormatError(f"{path} is empty. Get it again.")
    if head.startswith(b"PK"):
        if not zipfile.is_zipfile(path):
            raise CheckpointFormatError(
                f"{path} is truncated: it has {path.stat().st_size} bytes and its end is missing. Get it again."
            )
    elif head[8:] == b"{":
        raise CheckpointFormatError(
            f"{path} is a safetensors file, expected SAM 2's own format (.pt). Adapter files go to load_adapter."
        )
    elif head[:1] != pickle.PROTO:
        raise CheckpointFormatError(
            f"{path} is not a checkpoint: it begins with {head!r}, which is neither PyTorch's format nor its older one."
        )


def _unwrap(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """Take the tensors by their names out of what training scripts put around them, into a new dict."""
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = {k: v for k, v in content.items() if isinstance(v, torch.Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        keys = f" with the keys {list(content)[:_LISTED]}" if isinstance(content, Mapping) else ""
        raise CheckpointFormatError(
            f"{path} holds a {type(content).__name__}{keys}, expected tensors by their names, bare or below 'model' "
            "or 'state_dict'."
        )
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors
