# SPDX-License-Identifier: Apache-2.0
"""Files of networks inside torch.compile and the parallel wrappers, in any order, load as those of bare ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from monai_sam2adapter.networks.nets import PromptFreeSAM2
from monai_sam2adapter.networks.weights import (
    CheckpointFormatError,
    load_adapter,
    load_network_weights,
    load_sam2_checkpoint,
    save_adapter,
    unwrap_names,
    unwrap_network,
)


def compiled(network: nn.Module) -> nn.Module:
    return torch.compile(network, backend="eager")


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "compile": compiled,
    "DataParallel": nn.DataParallel,
    "DDP": nn.parallel.DistributedDataParallel,
}
# torch cannot compile what it has compiled already
ORDERS = [
    order
    for count in (1, 2, 3)
    for order in itertools.product(WRAPPERS, repeat=count)
    if ("compile", "compile") not in itertools.pairwise(order)
]


@pytest.fixture(scope="module")
def process_group() -> Iterator[None]:
    """What DistributedDataParallel asks for."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def wrap(network: nn.Module, order: tuple[str, ...]) -> nn.Module:
    for name in order:
        network = WRAPPERS[name](network)
    return network


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_networks_and_names_lose_every_wrapper(order: tuple[str, ...]) -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    wrapped = wrap(network, order)
    assert unwrap_network(wrapped) is network
    assert list(unwrap_names(wrapped.state_dict())) == list(network.state_dict())


def test_names_lose_the_mark_of_a_compiled_part_and_nothing_else() -> None:
    network = nn.ModuleDict({"encoder": compiled(nn.Linear(2, 2)), "a_module": nn.ModuleDict({"module": nn.PReLU()})})
    assert set(unwrap_names(network.state_dict())) == {"encoder.weight", "encoder.bias", "a_module.module.weight"}


def test_two_networks_in_a_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.pt"
    torch.save({"w": torch.zeros(1), "_orig_mod.w": torch.ones(1)}, path)
    with pytest.raises(CheckpointFormatError, match=r"two\.pt holds more than one network: .* twice"):
        load_network_weights(nn.Linear(1, 1), path)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."])
@pytest.mark.parametrize("key", [None, "model", "state_dict"])
def test_every_loader_takes_them_into_compiled_networks_too(
    net: PromptFreeSAM2, tiny_tensors: dict[str, torch.Tensor], tmp_path: Path, prefix: str, key: str | None
) -> None:
    def save(tensors: dict[str, torch.Tensor], name: str) -> Path:
        named = {prefix + name: tensor for name, tensor in tensors.items()}
        torch.save(named if key is None else {key: named}, tmp_path / name)
        return tmp_path / name

    load_sam2_checkpoint(compiled(net), save(tiny_tensors, "sam2.pt"))
    state = net.state_dict()
    assert all(torch.equal(state[name], tiny_tensors[name]) for name in net.sam2_state_names())
    expected = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    load_network_weights(compiled(net), save(expected, "model.pt"))
    torch.testing.assert_close(dict(net.state_dict()), expected, rtol=0, atol=0)


def test_adapter_files_of_compiled_networks_are_those_of_bare_ones(net: PromptFreeSAM2, tmp_path: Path) -> None:
    save_adapter(net, tmp_path / "bare.safetensors")
    save_adapter(compiled(net), tmp_path / "compiled.safetensors")
    bare, of_compiled = (load_file(tmp_path / f"{name}.safetensors") for name in ("bare", "compiled"))
    torch.testing.assert_close(of_compiled, bare, rtol=0, atol=0)
    load_adapter(compiled(net), tmp_path / "compiled.safetensors")
