# SPDX-License-Identifier: Apache-2.0
"""A new training that starts from an earlier one of other classes, channels, size or adapter: what fits is loaded."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ...utils import escaping_logger, printable
from .adapters import base_checksum, config_in, read_adapter
from .match import INPUT_CHANNELS, SAM2Net, check_variant, match_tensors
from .peers import POSITIONS, fit_positions
from .read import CheckpointMismatchError, existing_file, read_checkpoint, read_content, tensors_in, tensors_sha256
from .training_state import is_training_state

__all__ = ["StartingWeights", "read_starting_weights"]

logger = escaping_logger(__name__)


@dataclass(frozen=True)
class StartingWeights:
    """
    The weights that a file has for a network.

    Args:
        path: the file.
        tensors: those that fit, by the network's names.
        new: names of the network's other tensors, which start anew, and why.
        unused: names of the file's other tensors.
        has_its_base: tells of a network whether the weights that the file lacks are those that it was trained on.
    """

    path: Path
    tensors: Mapping[str, torch.Tensor]
    new: Mapping[str, str]
    unused: tuple[str, ...]
    has_its_base: Callable[[SAM2Net], bool]

    def load_into(self, net: SAM2Net) -> None:
        """Copy what fits into the network that the file was read for, and log one report."""
        if not self.has_its_base(net):
            logger.warning(
                "%s was trained on other pretrained weights than %s, which its adapters now meet.",
                self.path,
                net.base_checkpoint or "the random ones",
            )
        net.load_state_dict(self.tensors, strict=False)
        if hasattr(net, "sam2_state_names") and net.sam2_state_names() <= self.tensors.keys():
            net.base_checkpoint = f"the one in {self.path.name}"
        logger.info(str(self))

    def __str__(self) -> str:
        def by_part(names: list[str]) -> str:
            counts = Counter(name.partition(".")[0] for name in names)
            return ", ".join(f"{part} {count}" for part, count in counts.items()) or "none"

        new = [f"    {name}: {reason}" for name, reason in self.new.items()]
        return "\n".join(
            (
                f"Training starts from {printable(self.path)}:",
                f"  loaded {len(self.tensors)} tensors ({by_part(list(self.tensors))})",
                f"  unused {len(self.unused)} tensors of the file ({by_part(list(self.unused))})",
                f"  new or as before {len(self.new)} tensors",
                *new,
            )
        )


def read_starting_weights(net: SAM2Net, path: str | os.PathLike[str]) -> StartingWeights:
    """
    Find what a network can take from a file of an earlier training; the network is not changed.

    A layer is taken whole or not at all: where one of its tensors is of another shape, all of it starts anew. So do
    class tokens and heads when the number of classes is another one. DINOv2's positions are interpolated.

    Args:
        net: network of the new training.
        path: ``model.pt`` or ``last.pt`` of a training, or a file that ``save_adapter`` wrote. The frozen weights that
            a ``last.pt`` lacks come from the ``model.pt`` beside it, where it has them.

    Raises:
        FileNotFoundError: when there is no such file.
        UnsafeCheckpointError: when the file holds more than tensors and plain containers.
        CheckpointFormatError: when the file is truncated, damaged, or no checkpoint.
        CheckpointMismatchError: when the file is of another variant of SAM 2, or nothing in it fits.
    """
    path = existing_file(path, "there is no file {} to start from; give a model.pt, last.pt or adapter file.")
    own = net.state_dict()
    found, has_its_base = _read_adapter(net, path) if path.suffix == ".safetensors" else _read_checkpoint(path)
    fit_positions(found, own, POSITIONS)
    check_variant(found, own, path)
    reasons = {name: reason for name in own if (reason := _misfit(name, found, own))}
    layers = {_layer(name): name for name in reasons if name in found and "." in name}
    for name in own:
        if name not in reasons and _layer(name) in layers:
            reasons[name] = f"goes with {layers[_layer(name)]}"
    new = {name: reasons[name] for name in own if name in reasons}
    fitting = {name: found[name] for name in own if name not in new}
    match_tensors(fitting, {name: own[name] for name in fitting}, path, "an earlier training", "Give another file.")
    if not fitting:
        some = ", ".join(list(found)[:3])
        raise CheckpointMismatchError(
            f"nothing in {path} fits the network: it holds {some}, ...; give the file of a training of this network, "
            "such as its model.pt, and the variant and adapter that it was trained with."
        )
    return StartingWeights(path, fitting, new, tuple(sorted(found.keys() - fitting.keys())), has_its_base)


def _read_adapter(net: SAM2Net, path: Path) -> tuple[dict[str, torch.Tensor], Callable[[SAM2Net], bool]]:
    metadata, tensors = read_adapter(path)
    of_file, of_net = config_in(metadata, path), net.config
    for key, default in (("encoder", "sam2"), ("variant", None)):
        one, other = of_file.get(key, default), of_net.get(key, default)
        if one != other:
            whose = "SAM 2's " * (key == "variant" and "encoder" not in of_net)
            raise CheckpointMismatchError(f"{path} is of {whose}{key} {one}, the net is {other}. Give {key} {one}.")
    return tensors, lambda other: base_checksum(other) == metadata["base_sha256"]


def _read_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], Callable[[SAM2Net], bool]]:
    content = read_content(path)
    trained = tensors_in(content, path)
    sha256 = content.get("frozen_sha256") if is_training_state(content) else None
    if sha256 is None:
        return trained, lambda net: True
    best = path.with_name("model.pt")
    frozen = {k: v for k, v in read_checkpoint(best).items() if k not in trained} if best.is_file() else {}
    if tensors_sha256(frozen) == sha256:
        return {**frozen, **trained}, lambda net: True

    def has_its_base(net: SAM2Net) -> bool:
        parameters = net.named_parameters()
        return tensors_sha256({k: v for k, v in parameters if k not in trained and not v.requires_grad}) == sha256

    return trained, has_its_base


def _misfit(name: str, found: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> str:
    """Why a network cannot take a tensor; nothing when it can."""
    if name not in found:
        return "not in the file"
    if name == INPUT_CHANNELS and not torch.equal(found[name], own[name]):
        return f"{int(found[name])} in the file, {int(own[name])} in the network"
    if found[name].shape != own[name].shape:
        return f"{tuple(found[name].shape)} in the file, {tuple(own[name].shape)} in the network"
    if own[name].is_floating_point() > found[name].is_floating_point():
        return f"{found[name].dtype} in the file"
    return ""


def _layer(name: str) -> str:
    return name.rpartition(".")[0]
