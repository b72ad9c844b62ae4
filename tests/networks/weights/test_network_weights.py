# SPDX-License-Identifier: Apache-2.0
"""Weights of a whole network go into one with the same options only."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from monai_sam2adapter.networks.nets import PromptFreeSAM2
from monai_sam2adapter.networks.weights import CheckpointFormatError, CheckpointMismatchError, load_network_weights


def network(in_channels: int, adapter: str = "none") -> PromptFreeSAM2:
    return PromptFreeSAM2("tiny", adapter, "sam2", in_channels=in_channels, out_channels=2)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained with one neighbor on each side."""
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(network(3).state_dict(), path)
    return path


def test_the_same_options_get_every_tensor(weights: Path) -> None:
    net = network(3)
    load_network_weights(net, weights)
    saved = torch.load(weights, weights_only=True)
    assert all(torch.equal(tensor, saved[name]) for name, tensor in net.state_dict().items())


def test_other_channels_are_refused_though_every_tensor_has_the_same_shape(weights: Path) -> None:
    net = network(1)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(
        CheckpointMismatchError,
        match=r"with .*in_channels 3 \(num_neighbors 1 .*this one has .*in_channels 1 \(num_neighbors 0",
    ):
        load_network_weights(net, weights)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("strict", [True, False])
def test_pytorch_refuses_other_channels_too(strict: bool, weights: Path) -> None:
    net = network(1)
    with pytest.raises(RuntimeError, match="the weights are for in_channels=3, the network has 1"):
        net.load_state_dict(torch.load(weights, weights_only=True), strict=strict)
    assert net.state_dict()["input_channels"] == 1


def test_another_adapter_is_named(weights: Path) -> None:
    with pytest.raises(CheckpointMismatchError, match=r"adapter none or full.*this one has .*adapter lw"):
        load_network_weights(network(3, "lw"), weights)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no trained weights at .*no\.pt"):
        load_network_weights(network(3), tmp_path / "no.pt")


@pytest.mark.parametrize(
    "tensor",
    [torch.ones(3, device="meta"), torch.eye(3).to_sparse(), torch.eye(3).to_sparse_csr()],
    ids=["meta", "sparse", "rows"],
)
def test_tensors_without_plain_values_are_named(tensor: torch.Tensor, tmp_path: Path) -> None:
    net = network(3)
    torch.save({**net.state_dict(), "image_encoder.trunk.pos_embed": tensor}, tmp_path / "model.pt")
    with pytest.raises(CheckpointFormatError, match=r"model\.pt .*(holds tensors without plain values|damaged)"):
        load_network_weights(net, tmp_path / "model.pt")
