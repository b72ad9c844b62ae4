# SPDX-License-Identifier: Apache-2.0
"""Several files of trained weights as one ensemble."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from monai_sam2adapter.networks.nets import PromptFreeSAM2
from monai_sam2adapter.networks.utils import cast_frozen_weights, reparameterize_model
from monai_sam2adapter.networks.weights import CheckpointMismatchError, load_network_weights

QKV, TOKENS = "image_encoder.trunk.blocks.0.attn.qkv.weight", "sam_mask_decoder.class_tokens.weight"


def build(adapter: str = "lora", seed: int = 0, **options: object) -> PromptFreeSAM2:
    """A network whose trunk depends on the seed alone."""
    torch.manual_seed(seed)
    return PromptFreeSAM2(adapter=adapter, in_channels=1, out_channels=2, **options).eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three trainings of one trunk, of which the last is the trunk of another seed."""
    folder, paths = tmp_path_factory.mktemp("folds"), []
    for number in range(3):
        net = build(seed=number // 2)
        torch.manual_seed(10 + number)
        with torch.no_grad():
            for parameter in net.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.02 * torch.randn_like(parameter))
        paths.append(folder / f"{number}.pt")
        torch.save(net.state_dict(), paths[-1])
    return paths


@torch.no_grad()
def test_members_are_the_networks_of_their_files_and_share_what_is_the_same(files: list[Path]) -> None:
    images = torch.rand(1, 1, 32, 32)
    alone = [load_network_weights(build(), file)(images) for file in files]
    ensemble = load_network_weights(build(), files)
    assert isinstance(ensemble, torch.nn.ModuleList)
    assert not ensemble.training
    # as a bundle's inference does: LoRA is merged into weights that were equal before
    ensemble = cast_frozen_weights(reparameterize_model(ensemble, inplace=True), "float32")
    for member, expected in zip(ensemble, alone, strict=True):
        torch.testing.assert_close(member(images), expected, rtol=1e-4, atol=1e-4)
    first, second, other = (dict(member.named_parameters()) for member in ensemble)
    shared = [name for name in first if first[name].data_ptr() == second[name].data_ptr()]
    assert sum(first[name].numel() for name in shared) > 0.5 * sum(value.numel() for value in first.values())
    assert QKV not in shared
    assert TOKENS not in shared
    of_mlps = [name for name in shared if name.endswith("mlp.layers.0.weight")]
    assert len(of_mlps) >= 12
    assert all(first[name].data_ptr() != other[name].data_ptr() for name in of_mlps)


def test_frozen_weights_in_half_precision_are_shared(files: list[Path]) -> None:
    ensemble = cast_frozen_weights(load_network_weights(build(), files[:2]), "bfloat16")
    first, second = (dict(member.named_parameters())[QKV] for member in ensemble)
    assert first.dtype == torch.bfloat16
    assert first.data_ptr() == second.data_ptr()


def test_a_list_of_one_is_that_one(files: list[Path]) -> None:
    net = build()
    assert load_network_weights(net, [str(files[1])]) is net
    expected = torch.load(files[1], weights_only=True)
    assert all(torch.equal(value, expected[name]) for name, value in net.state_dict().items())


def test_what_is_no_ensemble_is_told_and_changes_nothing(files: list[Path], tmp_path: Path) -> None:
    net = build()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.save(build("none").state_dict(), tmp_path / "none.pt")
    (tmp_path / "link.pt").symlink_to(files[0])
    with pytest.raises(ValueError, match="the list of trained weights is empty"):
        load_network_weights(net, [])
    with pytest.raises(ValueError, match=r"0\.pt is in the list of trained weights twice"):
        load_network_weights(net, [files[0], tmp_path / "link.pt"])
    with pytest.raises(FileNotFoundError, match=r"there are no trained weights at .*absent\.pt"):
        load_network_weights(net, [files[0], tmp_path / "absent.pt"])
    with pytest.raises(
        CheckpointMismatchError, match=r"none\.pt does not fit .* adapter none or full, .* adapter lora"
    ):
        load_network_weights(net, [files[0], tmp_path / "none.pt"])
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
