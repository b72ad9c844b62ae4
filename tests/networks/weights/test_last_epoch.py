# SPDX-License-Identifier: Apache-2.0
"""A training's last.pt, which lacks the frozen weights, serves wherever its model.pt does."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from monai_sam2adapter.networks.nets import PromptFreeSAM2
from monai_sam2adapter.networks.weights import CheckpointMismatchError, load_network_weights, load_sam2_checkpoint
from monai_sam2adapter.networks.weights.read import tensors_sha256


@pytest.fixture
def trained(net: PromptFreeSAM2, tiny_checkpoint: Path) -> PromptFreeSAM2:
    load_sam2_checkpoint(net, tiny_checkpoint)
    for parameter in net.parameters():
        if parameter.requires_grad:
            parameter.data += 1
    return net


@pytest.fixture
def last(trained: PromptFreeSAM2, tmp_path: Path) -> Path:
    frozen = {name: parameter for name, parameter in trained.named_parameters() if not parameter.requires_grad}
    network = {name: tensor for name, tensor in trained.state_dict().items() if name not in frozen}
    path = tmp_path / "last.pt"
    torch.save({"format": 2, "network": network, "frozen_sha256": tensors_sha256(frozen), "epoch": 3}, path)
    return path


@pytest.fixture
def new(untouched_net: PromptFreeSAM2) -> PromptFreeSAM2:
    return copy.deepcopy(untouched_net)


def assert_equal(net: PromptFreeSAM2, other: PromptFreeSAM2) -> None:
    torch.testing.assert_close(dict(net.state_dict()), dict(other.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("base", ["in the network", "model.pt", "sam2_checkpoint", "all of them"])
def test_the_base_is_found(base: str, trained, new, last: Path, tiny_checkpoint: Path) -> None:
    if base in ("in the network", "all of them"):
        load_sam2_checkpoint(new, tiny_checkpoint)
    if base in ("model.pt", "all of them"):  # of an earlier epoch, on the same base
        earlier = copy.deepcopy(trained)
        earlier.sam_mask_decoder.class_tokens.weight.data -= 1
        torch.save(earlier.state_dict(), last.with_name("model.pt"))
    given = tiny_checkpoint if base in ("sam2_checkpoint", "all of them") else None
    load_network_weights(new, last, given)
    assert_equal(new, trained)


def test_without_its_base_it_is_refused_and_the_net_is_as_it_was(
    new, untouched_net, last: Path, tiny_tensors: dict[str, torch.Tensor]
) -> None:
    message = r"last\.pt holds only what was trained.*neither in .*model\.pt nor in those given .*sam2_checkpoint"
    with pytest.raises(CheckpointMismatchError, match=message):
        load_network_weights(new, last)
    torch.save(new.state_dict(), last.with_name("model.pt"))
    torch.save({name: tensor + 1 for name, tensor in tiny_tensors.items()}, last.with_name("other.pt"))
    with pytest.raises(CheckpointMismatchError, match=message):
        load_network_weights(new, last, last.with_name("other.pt"))
    assert_equal(new, untouched_net)


def test_of_another_network_it_is_refused_for_that(last: Path) -> None:
    other = PromptFreeSAM2("tiny", "lw", in_channels=1, out_channels=2)
    with pytest.raises(
        CheckpointMismatchError, match=r"does not fit the network.*adapter hp.*this one has .*adapter lw"
    ):
        load_network_weights(other, last)


@pytest.mark.parametrize(
    "content", [{"format": 1}, {"format": 2, "frozen_sha256": None}], ids=["format 1", "all trained"]
)
def test_files_with_all_tensors_need_no_base(content, trained, new, last: Path) -> None:
    torch.save({**content, "network": trained.state_dict()}, last)
    load_network_weights(new, last)
    assert_equal(new, trained)


@pytest.mark.parametrize("strict", [True, False])
def test_as_a_state_dictionary_it_is_refused(strict: bool, new: PromptFreeSAM2, last: Path) -> None:
    """Without strictness, PyTorch would leave the network as it is, without a word."""
    with pytest.raises(ValueError, match=r"the state of a training, last\.pt, and no network"):
        new.load_state_dict(torch.load(last, weights_only=True), strict=strict)
