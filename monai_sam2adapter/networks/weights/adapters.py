# SPDX-License-Identifier: Apache-2.0
"""Files with the trained part of a network only, which name the SAM 2 weights that it goes with."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ..._version import __version__
from ...utils.files import atomic_path
from .match import SAM2Net, match_tensors
from .read import (
    CHECKSUM_KEY,
    CheckpointFormatError,
    CheckpointMismatchError,
    existing_file,
    read_safetensors,
    tensors_sha256,
)
from .wrappers import unwrap_network

__all__ = ["base_checksum", "config_in", "load_adapter", "read_adapter", "save_adapter"]

_FORMAT_KEY, _FORMAT_VERSION = "monai_sam2adapter_format", 1
# settings of training, which change no tensor's name, shape or meaning
_TRAINING_SETTINGS = ("freeze",)
_ADVICE = "Files are loaded before a net is fused by reparameterize_model, and made from nets that are not fused."


def save_adapter(net: SAM2Net, path: str | os.PathLike[str]) -> None:
    """
    Write everything of a net that is not SAM 2's, parameters and buffers, to a safetensors file.

    The file's header holds the net's class and configuration, and the name and checksum of the SAM 2 weights that the
    adapter was trained on. The file appears under its name only when it is whole.

    Args:
        net: net whose SAM 2 weights are frozen.
        path: file to write, usually ``*.safetensors``. An existing one is replaced.

    Raises:
        ValueError: when SAM 2's own weights are trained too, which this file would lose.
        FileNotFoundError: when the folder of ``path`` does not exist.
    """
    path, net = Path(path), unwrap_network(net)
    _check_frozen(net)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to; create it first.")
    state = net.state_dict()
    tensors = {name: state[name].detach().cpu().contiguous() for name in net.added_state_names()}
    metadata = {
        _FORMAT_KEY: str(_FORMAT_VERSION),
        "package_version": __version__,
        "net": type(net).__name__,
        "config": json.dumps(dict(net.config)),
        "base": net.base_checkpoint or "random",
        "base_sha256": base_checksum(net),
        CHECKSUM_KEY: tensors_sha256(tensors),
    }
    with atomic_path(path) as unfinished:
        save_file(tensors, unfinished, metadata)


def load_adapter(net: SAM2Net, path: str | os.PathLike[str]) -> None:
    """
    Load what :func:`save_adapter` wrote into a net of the same configuration on the same SAM 2 weights.

    All checks come first: after an error the net is as it was.

    Args:
        net: net to load into, changed in place. Its SAM 2 weights must be loaded already.
        path: file to read.

    Raises:
        FileNotFoundError: when there is no such file.
        CheckpointFormatError: when the file is damaged, no adapter file, or of a newer format.
        CheckpointMismatchError: when class, configuration, SAM 2 weights, tensor names or shapes differ.
    """
    path, net = Path(path), unwrap_network(net)
    metadata, tensors = read_adapter(path)
    _check_config(net, metadata, path)
    _check_base(net, metadata, path)
    state, names = net.state_dict(), net.added_state_names()
    added = {name: state[name] for name in sorted(names)}
    match_tensors(tensors, added, path, "an adapter file", _ADVICE)
    net.load_state_dict(tensors, strict=False)


def base_checksum(net: SAM2Net) -> str:
    """SHA-256 over the tensors of a net that the file does not hold, the same on every device."""
    state = net.state_dict()
    return tensors_sha256({name: state[name] for name in state.keys() - net.added_state_names()}, end="\n")


def _check_frozen(net: SAM2Net) -> None:
    added = net.added_state_names()
    trained = [name for name, parameter in net.named_parameters() if parameter.requires_grad and name not in added]
    if trained or not net.config["freeze"]:
        raise ValueError(
            f"SAM 2's own weights are trained in this net (adapter {net.config['adapter']!r}, frozen parts "
            f"{list(net.config['freeze'])}), and an adapter file does not hold them. "
            f"Save the whole net with torch.save(net.state_dict(), path)."
        )


def read_adapter(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Header and tensors of a file that :func:`save_adapter` wrote; errors as of :func:`load_adapter`."""
    advice = "Expected a safetensors file written by save_adapter; SAM 2's own files go to load_sam2_checkpoint."
    metadata, tensors = read_safetensors(existing_file(path, "there is no adapter file {}."), "adapter file", advice)
    version = metadata.get(_FORMAT_KEY)
    if version is None:
        raise CheckpointFormatError(
            f"{path} is a safetensors file but no adapter file: its header lacks {_FORMAT_KEY!r}. "
            f"Expected a file written by save_adapter."
        )
    if version != str(_FORMAT_VERSION):
        raise CheckpointFormatError(
            f"{path} has format {version}, written by monai_sam2adapter {metadata.get('package_version')}; version "
            f"{__version__} reads format {_FORMAT_VERSION}. Install the version that wrote it, or a later one."
        )
    return metadata, tensors


def config_in(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    """Class and configuration of the net that a file was saved from."""
    try:
        config: dict[str, Any] = {"net": metadata["net"], **json.loads(metadata["config"])}
        if "+" in config["adapter"]:  # how version 0.1 wrote several
            config["adapter"] = config["adapter"].split("+")
            config["adapter_config"] = [config["adapter_config"][name] for name in config["adapter"]]
        if not {"base", "base_sha256"} <= metadata.keys():
            raise KeyError("base")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointFormatError(
            f"{path} is damaged: its header lacks the class, configuration or base of the net, or has them in another "
            f"form than save_adapter gives them ({error!r}). Get it again."
        ) from error
    return config


def _check_config(net: SAM2Net, metadata: Mapping[str, str], path: Path) -> None:
    # through JSON, which makes lists of tuples
    of_net: dict[str, Any] = {"net": type(net).__name__, **json.loads(json.dumps(dict(net.config)))}
    of_file = config_in(metadata, path)
    differing = [
        f"{key} is {of_file.get(key)!r} in the file and {of_net.get(key)!r} in the net"
        for key in sorted(of_net.keys() | of_file.keys())
        if key not in _TRAINING_SETTINGS and of_file.get(key) != of_net.get(key)
    ]
    if differing:
        raise CheckpointMismatchError(
            f"{path} was trained in another configuration: {'; '.join(differing)}. Build the net as the file's was."
        )


def _check_base(net: SAM2Net, metadata: Mapping[str, str], path: Path) -> None:
    sha256 = base_checksum(net)
    if sha256 != metadata["base_sha256"]:
        raise CheckpointMismatchError(
            f"{path} was trained on other SAM 2 weights: on {metadata['base']!r} (checksum "
            f"{metadata['base_sha256'][:12]}...), the net has {net.base_checkpoint or 'random'!r} ({sha256[:12]}...). "
            f"Load the file's base into the net first, in its original precision."
        )
