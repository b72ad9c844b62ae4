# SPDX-License-Identifier: Apache-2.0
"""Files of whole trained networks: the best one of a training, its last epoch, and several for an ensemble."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.utils import ensure_tuple
from torch import nn

from .match import SAM2Net, check_encoder, describe_options, match_tensors
from .read import CheckpointMismatchError, existing_file, read_content, tensors_in
from .sam2 import prepare_base_weights
from .training_state import find_frozen, is_training_state
from .wrappers import unwrap_network

__all__ = ["load_network_weights"]

_Path = str | os.PathLike[str]


def load_network_weights(
    net: Any, path: _Path | Sequence[_Path], sam2_checkpoint: _Path | None = None, dino_checkpoint: _Path | None = None
) -> Any:
    """
    Load a whole trained network strictly: a bundle's ``models/model.pt``, or ``last.pt`` of the last epoch; or several
    of them, of folds or seeds, as an ensemble.

    ``last.pt`` lacks the frozen weights. They come from the network when it has them, else from the ``model.pt`` beside
    the file, else from ``sam2_checkpoint`` and ``dino_checkpoint``, and have to be those that it was trained on. All
    checks come first: after an error the net is as it was.

    Args:
        net: network with the options of the saved one, changed in place.
        path: the file, or a list of different ones. A list of one is that one alone.
        sam2_checkpoint: path or catalog name of SAM 2's weights. Needed only for a ``last.pt`` alone. Defaults to None.
        dino_checkpoint: the same for a network with DINOv2. Defaults to None.

    Returns:
        the same network; of several files a ``torch.nn.ModuleList`` of it and copies of it, in their order, which
        :py:class:`monai_sam2adapter.engines.PipelinedEvaluator` runs.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the list is empty, or a file is in it twice.
        UnsafeCheckpointError: when the file holds more than tensors and plain containers.
        CheckpointFormatError: when the file is truncated, damaged, or no checkpoint.
        CheckpointMismatchError: when the file is of a network with other options, where the message names those of the
            file, or when the frozen weights that it was trained on are not found.
    """
    files = [
        existing_file(one, "there are no trained weights at {}; train first, or give another file.")
        for one in ensure_tuple(path)
    ]
    if not files:
        raise ValueError("the list of trained weights is empty; name a file, or several for an ensemble.")
    places = [file.resolve() for file in files]
    for file, place in zip(files, places, strict=True):
        if places.count(place) > 1:
            raise ValueError(f"{file} is in the list of trained weights twice; name each member of an ensemble once.")
    nets = [net, *(copy.deepcopy(net) for _ in files[1:])]
    for member, file in zip(reversed(nets), reversed(files), strict=True):  # the given one when nothing can fail more
        _load(member, file, sam2_checkpoint, dino_checkpoint)
    return net if len(nets) == 1 else nn.ModuleList(nets).train(net.training)


def _load(net: Any, path: Path, sam2_checkpoint: _Path | None, dino_checkpoint: _Path | None) -> None:
    content = read_content(path)
    bare: Any = unwrap_network(net)
    saved, own = tensors_in(content, path), bare.state_dict()
    check_encoder(saved, own, path)
    if is_training_state(content):
        saved |= _find_base(
            bare, content, saved, path, {"checkpoint": sam2_checkpoint, "dino_checkpoint": dino_checkpoint}
        )
    is_ours = hasattr(bare, "base_checkpoint")
    if is_ours:
        of_file, of_net = describe_options(saved), describe_options(own)
        options = (
            f"It is of a network with {of_file}, this one has {of_net}; give the options that it was trained with."
        )
    else:
        options = f"Give the network_def that it was trained with in the place of this {type(bare).__name__}."
    match_tensors(saved, own, path, "a whole one", options)
    bare.load_state_dict(saved)
    if is_ours:
        bare.base_checkpoint = f"the one in {path.name}"  # the file does not tell its name


def _find_base(
    net: SAM2Net,
    content: Mapping[str, Any],
    trained: Mapping[str, torch.Tensor],
    path: Path,
    checkpoints: Mapping[str, Any],
) -> dict[str, torch.Tensor]:
    """The tensors of the net that a last.pt lacks; where they have no right to be missing, none."""
    sha256 = content.get("frozen_sha256")
    own = net.state_dict()
    missing = own.keys() - trained.keys()
    trainable = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    if sha256 is None or missing & trainable or trained.keys() - own.keys():
        return {}  # of another network, which the comparison of the names tells
    frozen, best = {name: own[name] for name in missing}, path.with_name("model.pt")
    base = find_frozen(frozen, sha256, best)
    if base is None and any(checkpoints.values()):
        other = copy.deepcopy(net)
        prepare_base_weights(other, resume=True, **checkpoints)
        state = other.state_dict()
        frozen = {name: state[name] for name in missing}
        base = find_frozen(frozen, sha256, best)
    if base is None:
        given = ", ".join(str(value) for value in checkpoints.values() if value) or "none"
        raise CheckpointMismatchError(
            f"{path} holds only what was trained, and the frozen weights that it was trained on are neither in {best} "
            f"nor in those given ({given}). Give the sam2_checkpoint (and dinov2_checkpoint) that its training was "
            "started with, or keep its model.pt beside it."
        )
    return {**frozen, **base}
