# SPDX-License-Identifier: Apache-2.0
"""A training that starts from another one's file takes what fits, and says what it has left new."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from monai_sam2adapter.networks.nets import PromptFreeSAM2
from monai_sam2adapter.networks.weights import (
    CheckpointError,
    CheckpointMismatchError,
    load_sam2_checkpoint,
    prepare_base_weights,
    save_adapter,
)
from monai_sam2adapter.networks.weights.read import tensors_sha256

HEAD = ("sam_mask_decoder.class_tokens.", "sam_mask_decoder.class_hypernetworks.")
PROJECTION = ("input_projection.",)
OPTIONS: dict[str, Any] = {"variant": "tiny", "adapter": "hp", "in_channels": 2, "out_channels": 4}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """A folder with the files of a training on the tiny checkpoint, last.pt with its model.pt and alone."""
    folder = tmp_path_factory.mktemp("trained")
    net = PromptFreeSAM2(**OPTIONS)
    load_sam2_checkpoint(net, tiny_checkpoint)
    for parameter in net.parameters():
        if parameter.requires_grad:
            parameter.data.normal_()
    frozen = {name: parameter for name, parameter in net.named_parameters() if not parameter.requires_grad}
    torch.save(net.state_dict(), folder / "model.pt")
    network = {name: tensor for name, tensor in net.state_dict().items() if name not in frozen}
    last = {"format": 2, "network": network, "frozen_sha256": tensors_sha256(frozen)}
    (folder / "alone").mkdir()
    for place in (folder, folder / "alone"):
        torch.save(last, place / "last.pt")
    save_adapter(net, folder / "adapter.safetensors")
    return folder


CHANGES: dict[str, tuple[dict[str, int], tuple[str, ...]]] = {
    "same": ({}, ()),
    "classes": ({"out_channels": 2}, HEAD),
    "classes and channels": ({"out_channels": 9, "in_channels": 1}, HEAD),
    "channels": ({"in_channels": 5}, PROJECTION),
}


@pytest.mark.parametrize("name", ["model.pt", "last.pt", "alone/last.pt", "adapter.safetensors"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_fits_is_loaded_and_the_rest_is_new(
    name: str, change: str, files: Path, tiny_checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options, anew = CHANGES[change]
    net = PromptFreeSAM2(**{**OPTIONS, **options})
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    trained = torch.load(files / "model.pt", weights_only=True)
    has_base = name in ("model.pt", "last.pt")
    with caplog.at_level(logging.INFO):
        prepare_base_weights(net, None if has_base else tiny_checkpoint, init_checkpoint=files / name)
    new = {key for key in before if key.startswith(anew)} if anew else set()
    for key, tensor in net.state_dict().items():
        if key not in new | {"input_channels"}:
            assert torch.equal(tensor, trained[key]), key
        elif has_base:  # else heads are started from SAM 2's
            assert torch.equal(tensor, before[key]), key
    (report,) = (message for message in caplog.messages if "Training starts from" in message)
    assert all(f"{key}: " in report for key in new)
    assert not any(record.levelno >= logging.WARNING for record in caplog.records)


def test_new_heads_start_from_sam2_where_it_is_given(
    files: Path, tiny_checkpoint: Path, tiny_tensors: dict[str, torch.Tensor]
) -> None:
    net = PromptFreeSAM2(**{**OPTIONS, "out_channels": 2})
    prepare_base_weights(net, tiny_checkpoint, init_checkpoint=files / "model.pt")
    tokens = net.state_dict()["sam_mask_decoder.class_tokens.weight"]
    assert torch.equal(tokens, tiny_tensors["sam_mask_decoder.mask_tokens.weight"][:1].expand(2, -1))


def test_another_adapter_starts_anew_on_the_earlier_base(files: Path) -> None:
    net = PromptFreeSAM2(**{**OPTIONS, "adapter": "lw"})
    prepare_base_weights(net, None, init_checkpoint=files / "model.pt")
    trained = torch.load(files / "model.pt", weights_only=True)
    assert all(torch.equal(net.state_dict()[name], trained[name]) for name in net.sam2_state_names())


@pytest.mark.parametrize("name", ["alone/last.pt", "adapter.safetensors"])
def test_a_file_without_its_base_needs_one_and_says_when_it_is_another(
    name: str, files: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match="no SAM 2 weights were given"):
        prepare_base_weights(PromptFreeSAM2(**OPTIONS), None, init_checkpoint=files / name)
    prepare_base_weights(PromptFreeSAM2(**OPTIONS), "random", init_checkpoint=files / name)
    assert any("was trained on other pretrained weights" in message for message in caplog.messages)


@pytest.mark.parametrize("name", ["model.pt", "last.pt", "adapter.safetensors"])
def test_another_variant_is_refused(name: str, files: Path) -> None:
    net = PromptFreeSAM2(**{**OPTIONS, "variant": "small"})
    with pytest.raises(CheckpointMismatchError, match=r"is of SAM 2's variant tiny, the net is small"):
        prepare_base_weights(net, "random", init_checkpoint=files / name)


def test_files_of_which_nothing_fits_or_that_hold_nan_are_refused(files: Path, tmp_path: Path) -> None:
    net = PromptFreeSAM2(**OPTIONS)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    torch.save({"fc.weight": torch.zeros(3)}, tmp_path / "resnet.pt")
    with pytest.raises(CheckpointMismatchError, match=r"nothing in .*resnet\.pt fits the network: it holds fc\.weight"):
        prepare_base_weights(net, "random", init_checkpoint=tmp_path / "resnet.pt")
    spoiled = torch.load(files / "model.pt", weights_only=True)
    spoiled["no_mem_embed"][:] = torch.nan
    torch.save(spoiled, tmp_path / "nan.pt")
    with pytest.raises(CheckpointError, match=r"nan\.pt .*NaN or infinite values in 1 tensors: no_mem_embed"):
        prepare_base_weights(net, "random", init_checkpoint=tmp_path / "nan.pt")
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.pt to start from"):
        prepare_base_weights(net, "random", init_checkpoint=tmp_path / "none.pt")
    torch.testing.assert_close(dict(net.state_dict()), before, rtol=0, atol=0)
