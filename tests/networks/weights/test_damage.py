# SPDX-License-Identifier: Apache-2.0
"""A damaged or foreign file of weights ends in one error that names it; what loads is what was saved."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from monai_sam2adapter.networks.weights import (
    CheckpointError,
    CheckpointFormatError,
    load_adapter,
    load_network_weights,
    load_sam2_checkpoint,
    save_adapter,
)
from monai_sam2adapter.networks.weights.training_state import read_training_state

NUM_FLIPS = 1500
HEADER = {
    "monai_sam2adapter_format": "1",
    "net": "Tiny",
    "config": json.dumps({"adapter": "none", "freeze": ["sam2"]}),
    "base": "random",
    "base_sha256": "0",
}


class Tiny(nn.Module):
    """The least that is a net with SAM 2's weights and others."""

    base_checkpoint: str | None = None
    config: Mapping[str, Any] = json.loads(HEADER["config"])

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.sam2, self.added = nn.Linear(2, 2).requires_grad_(False), nn.BatchNorm1d(5)
        for tensor in self.added.state_dict().values():
            tensor.fill_(value)
        self.sam2.weight.data.fill_(1)
        self.sam2.bias.data.fill_(1)

    def sam2_state_names(self) -> set[str]:
        return {"sam2.weight", "sam2.bias"}

    def added_state_names(self) -> set[str]:
        return set(self.state_dict()) - self.sam2_state_names()


def save_model(net: Tiny, path: Path) -> None:
    torch.save(net.state_dict(), path)


def save_last(net: Tiny, path: Path) -> None:
    optimizer = torch.optim.Adam(net.added.parameters())
    numbers = {"epoch": 1, "iteration": 2, "max_epochs": 3, "best_metric": 0.5, "best_metric_epoch": 1}
    states = {"optimizer": optimizer.state_dict(), "lr_scheduler": {"last_epoch": 1}, "scaler": {}}
    torch.save({"format": 2, "network": net.state_dict(), "frozen_sha256": None, **states, **numbers}, path)


def load_last(net: Tiny, path: Path) -> None:
    net.load_state_dict(read_training_state(path)["network"])


KINDS: dict[str, tuple[Callable[[Tiny, Path], None], Callable[[Any, Path], Any]]] = {
    "model.pt": (save_model, load_network_weights),
    "last.pt": (save_last, load_network_weights),
    "resumed last.pt": (save_last, load_last),
    "sam2.pt": (save_model, load_sam2_checkpoint),
    "adapter.safetensors": (save_adapter, load_adapter),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Callable[[Any, Path], Any]]:
    """A sound file of a net full of 7, and its loader."""
    save, load = KINDS[request.param]
    path = tmp_path / request.param
    save(Tiny(7), path)
    return path, load


def values_or_error(path: Path, load: Callable[[Any, Path], Any]) -> dict[str, torch.Tensor]:
    """What the loader loads; nothing when it refuses the file by its name and leaves the net as it was."""
    net, message = Tiny(), None
    try:
        load(net, path)
    except CheckpointError as error:
        message = str(error)
    if message is not None:
        assert str(path) in message
        torch.testing.assert_close(net.state_dict(), Tiny().state_dict(), rtol=0, atol=0)
        return {}
    return net.state_dict()


def test_a_changed_byte_is_noticed_or_changes_nothing(kind) -> None:
    path, load = kind
    sound = path.read_bytes()
    expected = values_or_error(path, load)
    assert expected["added.running_mean"].tolist() == ([0] * 5 if load is load_sam2_checkpoint else [7] * 5)
    generator, noticed = random.Random(0), 0
    for _ in range(NUM_FLIPS):
        place = generator.randrange(len(sound))
        damaged = bytearray(sound)
        damaged[place] ^= generator.randrange(1, 256)
        path.write_bytes(damaged)
        found = values_or_error(path, load)
        noticed += not found
        if found:
            torch.testing.assert_close(found, expected, rtol=0, atol=0, msg=f"byte {place}")
    assert noticed > NUM_FLIPS / 4  # a zip has names twice, and bytes between its parts


def test_a_part_of_a_file_is_refused(kind) -> None:
    path, load = kind
    sound = path.read_bytes()
    for length in range(0, len(sound) - 1, 7):
        path.write_bytes(sound[:length])
        assert not values_or_error(path, load), length


@pytest.mark.parametrize(
    "content",
    [b"<!DOCTYPE html><html>Sign in</html>", b"\n\n<html>", b"{}", b"\x00" * 100, b"\xff" * 100, b"PK", b"\x80\x02"],
    ids=["html", "html after lines", "json", "zeros", "ones", "zip", "pickle"],
)
def test_a_foreign_file_is_refused(content: bytes, kind) -> None:
    path, load = kind
    path.write_bytes(content)
    assert not values_or_error(path, load)


@pytest.mark.parametrize("content", [None, 3, "text", [1], {}, {1: torch.zeros(1)}, {"a": 1}, torch.zeros(2)], ids=repr)
def test_other_things_of_pytorch_are_refused(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    for _, load in KINDS.values():
        assert not values_or_error(path, load)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    for load in (load_network_weights, load_sam2_checkpoint, load_adapter):
        with pytest.raises(IsADirectoryError, match=rf"{tmp_path} is a folder, expected a file"):
            load(Tiny(), tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("everywhere", [False, True])
def test_weights_that_are_no_numbers_are_refused(value: float, everywhere: bool, kind) -> None:
    path, load = kind
    net = Tiny(7)
    for parameter in (net.added if load is load_adapter else net).parameters():
        parameter.data.view(-1)[slice(None) if everywhere else -1] = value
    KINDS[path.name][0](net, path)
    if load is load_last:  # where the handler compares them
        return
    with pytest.raises(CheckpointError, match=rf"{path.name} .*has NaN or infinite values in \d tensors: "):
        load(Tiny(), path)


@pytest.mark.parametrize(
    "key", ["network", "optimizer", "lr_scheduler", "scaler", "epoch", "max_epochs", "best_metric"]
)
@pytest.mark.parametrize("change", [None, "text"])
def test_a_resumed_file_that_lacks_something_is_refused(key: str, change: Any, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_last(Tiny(), path)
    content = torch.load(path, weights_only=True)
    if change is None:
        del content[key]
    else:
        content[key] = change
    torch.save(content, path)
    with pytest.raises(CheckpointFormatError, match=rf"last\.pt is damaged .*: {key} are missing"):
        read_training_state(path)


@pytest.mark.parametrize("key", ["net", "config", "base", "base_sha256"])
@pytest.mark.parametrize("text", [None, "{", "[1]", "null", '{"adapter": 1}', '{"adapter": "a+b"}', "\x00"])
def test_a_broken_header_is_refused(key: str, text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    save_adapter(Tiny(7), path)
    header = {**HEADER, key: text} if text is not None else {k: v for k, v in HEADER.items() if k != key}
    save_file(load_file(path), path, header)
    assert not values_or_error(path, load_adapter)
