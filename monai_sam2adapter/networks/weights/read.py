# SPDX-License-Identifier: Apache-2.0
"""Reading files of weights without trusting them, and what can be wrong with one."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from .wrappers import unwrap_names

__all__ = [
    "CHECKSUM_KEY",
    "CheckpointError",
    "CheckpointFormatError",
    "CheckpointMismatchError",
    "UnsafeCheckpointError",
    "existing_file",
    "read_checkpoint",
    "read_content",
    "read_safetensors",
    "tensors_in",
    "tensors_sha256",
]


CHECKSUM_KEY = "tensors_sha256"
"""Key of a checksum over all tensors in the header of our safetensors files, a format that has none itself."""

_FOLDER = 0x10  # in a zip's attributes

_WRAPPING_KEYS = ("model", "state_dict", "network")  # the last one in our own last.pt


class CheckpointError(ValueError):
    """A file of weights cannot be used; the net is as it was before."""


class CheckpointFormatError(CheckpointError):
    """The file is damaged, or of another kind than the one asked for."""


class UnsafeCheckpointError(CheckpointError):
    """The file is a pickle of more than tensors and plain containers, so that opening it could run code."""


class CheckpointMismatchError(CheckpointError):
    """The file is sound but made for another net: other variant, names, shapes, configuration or base weights."""


def existing_file(path: str | os.PathLike[str], message: str) -> Path:
    """
    The path of a file, with ``~`` written out.

    Raises:
        FileNotFoundError: when there is none; ``message`` then has the path in place of ``{}``.
        IsADirectoryError: when it is a folder.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, expected a file of weights; give the path of the file in it.")
    if not path.is_file():
        raise FileNotFoundError(message.format(path))
    return path


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """
    Read the tensors of a file that PyTorch wrote, by their names.

    Args:
        path: an existing file; its tensors bare or below "model", "state_dict" or "network", with or without what
            torch.compile and the parallel wrappers put before their names.

    Returns:
        the tensors on the CPU.

    Raises:
        UnsafeCheckpointError: when the file holds more than tensors and plain containers.
        CheckpointFormatError: when the file is truncated, damaged, or no checkpoint.
    """
    return tensors_in(read_content(path), path)


def read_safetensors(path: Path, kind: str, advice: str) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """
    Read a safetensors file, which cannot hold code.

    Args:
        path: an existing file.
        kind: what it should be, for the message.
        advice: what to do, for the message.

    Returns:
        its header's texts, and the tensors on the CPU.

    Raises:
        CheckpointFormatError: when it is no such file or damaged.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:  # a damaged header ends in any of them
        raise CheckpointFormatError(f"{path} is no {kind}, or damaged ({error}). {advice}") from error
    if CHECKSUM_KEY in metadata and metadata[CHECKSUM_KEY] != tensors_sha256(tensors):
        raise CheckpointFormatError(
            f"{path} is damaged: its tensors have not the checksum in its header. Get it again."
        )
    return metadata, tensors


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


def read_content(path: Path, mmap: bool = True) -> Any:
    """
    Read all that PyTorch wrote to a file.

    Args:
        path: an existing file.
        mmap: whether tensors stay on the disk until they are used, so that a large file is not held in memory beside
            the net that they are copied into. Defaults to True.

    Returns:
        what was saved, its tensors on the CPU.

    Raises:
        UnsafeCheckpointError: when the file holds more than tensors and plain containers.
        CheckpointFormatError: when the file is truncated, damaged, or no checkpoint.
    """
    is_zip = _check_format(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and is_zip)
    except pickle.UnpicklingError as error:
        found = ", ".join(sorted(set(re.findall(r"GLOBAL (\S+)", str(error))))) or "objects of Python"
        raise UnsafeCheckpointError(
            f"{path} is unsafe and was not opened: besides tensors and plain containers it holds {found}, and a file "
            f"that does can run code when it is opened. Get a file with nothing but weights, such as SAM 2's own."
        ) from error
    except Exception as error:  # a damaged pickle can end in any exception
        raise CheckpointFormatError(f"{path} is truncated or damaged ({error}). Get it again.") from error


def _check_format(path: Path) -> bool:
    """Tell by the first bytes what torch.load would only meet with one of many errors; whether it is PyTorch's zip."""
    with path.open("rb") as file:
        head = file.read(9)
    if not head:
        raise CheckpointFormatError(f"{path} is empty. Get it again.")
    if head.startswith(b"PK"):
        _check_parts(path)
    elif head[8:] == b"{":
        raise CheckpointFormatError(
            f"{path} is a safetensors file, expected SAM 2's own format (.pt). Adapter files go to load_adapter."
        )
    elif head[:1] != pickle.PROTO:
        raise CheckpointFormatError(
            f"{path} is not a checkpoint: it begins with {head!r}, which is neither PyTorch's format nor its older one."
        )
    return head.startswith(b"PK")


def _check_parts(path: Path) -> None:
    """Compare the checksum of each part of PyTorch's zip, which torch.load leaves out."""
    try:
        with zipfile.ZipFile(path) as archive:
            # torch.load reads nothing from what is marked as a folder, and hands out memory as it was
            folders = [part.filename for part in archive.infolist() if part.external_attr & _FOLDER and part.file_size]
            broken = archive.testzip() or next(iter(folders), None)
    except Exception as error:  # as many kinds as there are fields in a zip
        raise CheckpointFormatError(
            f"{path} is truncated or damaged: it has {path.stat().st_size} bytes ({error}). Get it again."
        ) from error
    if broken is not None:
        raise CheckpointFormatError(f"{path} is damaged: its part {broken} has a wrong checksum or mark. Get it again.")


def tensors_in(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """
    Take the tensors by their names out of what training scripts put around them, into a new dict.

    Args:
        content: as :func:`read_content` gives it.
        path: its file, for the message.

    Raises:
        CheckpointFormatError: when there are none, or those of two networks.
    """
    for key in _WRAPPING_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    items = content.items() if isinstance(content, Mapping) else ()
    tensors = {name: value for name, value in items if isinstance(name, str) and isinstance(value, torch.Tensor)}
    if not tensors:
        keys = f" with the keys {list(content)[:5]}" if isinstance(content, Mapping) else ""
        raise CheckpointFormatError(
            f"{path} holds a {type(content).__name__}{keys}, expected tensors by their names, bare or below "
            f"{', '.join(map(repr, _WRAPPING_KEYS[:-1]))} or {_WRAPPING_KEYS[-1]!r}."
        )
    odd = [name for name, tensor in tensors.items() if tensor.layout != torch.strided or tensor.device.type != "cpu"]
    if odd:
        tensor = tensors[odd[0]]
        raise CheckpointFormatError(
            f"{path} holds tensors without plain values, such as {odd[0]} ({tensor.layout}, on the device "
            f"{tensor.device}); expected strided tensors. Save the weights anew from a network that has them."
        )
    try:
        return unwrap_names(tensors)
    except ValueError as error:
        raise CheckpointFormatError(f"{path} holds more than one network: {error}") from error
