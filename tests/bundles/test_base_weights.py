# SPDX-License-Identifier: Apache-2.0
"""SAM 2's weights and trained ones are there whoever builds a bundle's network, and a training can start from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import monai.bundle
import pytest
import torch
from bundle_runs import ACDC, SHORT, SMALL, config_of, fails_with, load, train
from monai.bundle import ConfigWorkflow
from monai.fl.client import MonaiAlgo

from monai_sam2adapter.bundle import pack_bundle
from monai_sam2adapter.data import write_acdc_phantom
from monai_sam2adapter.networks.nets import PromptFreeSAM2
from monai_sam2adapter.networks.weights import save_sam2_checkpoint

SETTINGS = {key: SMALL[key] for key in ("adapter", "image_size", "batch_size")}


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("acdc")
    write_acdc_phantom(folder, num_train=1, num_val=1, num_test=1, progress=False)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as SAM 2's own ones, with other weights than a network draws."""
    path = tmp_path_factory.mktemp("base") / "sam2_hiera_tiny.pt"
    torch.manual_seed(5)
    save_sam2_checkpoint(PromptFreeSAM2("tiny", adapter="full", positional_encoding="sam2"), path)
    return path


@pytest.fixture
def packed(dataset_dir: Path, base: Path, tmp_path: Path) -> Path:
    """A bundle as it is downloaded, trained for two steps."""
    models = tmp_path / "training"
    train(ACDC, dataset_dir, models, **{"sam2_checkpoint": str(base), "train#trainer#epoch_length": 2})
    zip_file = pack_bundle(ACDC, models / "model.pt", tmp_path, settings=SETTINGS).path
    monai.bundle.download(name=ACDC.name, url=zip_file.as_uri(), bundle_dir=tmp_path, progress=False)
    return tmp_path / ACDC.name


def workflow(*names: str, bundle: Path = ACDC, kind: str = "train", **options: Any) -> ConfigWorkflow:
    options = {**SMALL, "bundle_root": str(bundle), **options}
    found = ConfigWorkflow(config_of(bundle, *names), workflow_type=kind, logging_file=False, **options)
    found.initialize()
    return found


def trunk(network: torch.nn.Module) -> torch.Tensor:
    return network.image_encoder.trunk.patch_embed.proj.weight


def test_trainer_and_evaluator_have_the_base(dataset_dir: Path, base: Path, tmp_path: Path) -> None:
    options = {"dataset_dir": str(dataset_dir), "output_dir": str(tmp_path), "sam2_checkpoint": str(base)}
    found = workflow("train", **options, num_workers=0)
    expected = load(base)["model"]["image_encoder.trunk.patch_embed.proj.weight"]
    assert torch.equal(trunk(found.trainer.network), expected)
    assert found.evaluator.network is found.trainer.network


@pytest.mark.parametrize(
    ("options", "message"),
    [({}, "no SAM 2 weights were given"), ({"sam2_checkpoint": "no/sam2.pt"}, "there is no file no/sam2.pt")],
    ids=["none", "missing"],
)
def test_no_base_is_an_error_before_data_are_read(options: dict[str, str], message: str, tmp_path: Path) -> None:
    options = {"dataset_dir": str(tmp_path / "nothing"), "output_dir": str(tmp_path), **options}
    found = workflow("train", **options)
    for name in ("trainer", "evaluator"):
        with fails_with(message):
            getattr(found, name)
    client = MonaiAlgo(str(ACDC), config_evaluate_filename=None, train_kwargs={**SMALL, **options})
    with fails_with(message):
        client.initialize()


@pytest.mark.parametrize(
    ("names", "kind"), [(("train", "evaluate"), "train"), (("inference",), "infer")], ids=["evaluation", "inference"]
)
def test_the_evaluator_has_the_trained_weights(
    names: tuple[str, ...], kind: str, packed: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    options = {"kind": kind, "dataset_dir": str(dataset_dir), "output_dir": str(tmp_path / "out")}
    network = workflow(*names, bundle=packed, **options).evaluator.network
    expected = load(packed / "models" / "model.pt")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in network.state_dict().items())
    with fails_with("there are no trained weights at no.pt"):
        workflow(*names, bundle=packed, checkpoint_file="no.pt", **options).evaluator  # noqa: B018


def test_load_gives_the_network_in_training(packed: Path) -> None:
    network = monai.bundle.load(packed.name, bundle_dir=packed.parent, workflow_type="train", device="cpu")
    expected = load(packed / "models" / "model.pt")
    assert network.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in network.state_dict().items())
    assert {name for name, tensor in network.named_parameters() if tensor.requires_grad} < set(expected)
    missing = {"checkpoint": "no/sam2.pt"}
    with fails_with("there is no file no/sam2.pt"):
        monai.bundle.load(
            packed.name, bundle_dir=packed.parent, workflow_type="train", device="cpu", net_override=missing
        )


def test_a_downloaded_bundle_is_trained_further_in_place_and_elsewhere(
    packed: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    """As one command does, which names neither weights nor options of the network."""
    options = {**SHORT, "device": "cpu", "dataset_dir": str(dataset_dir), "bundle_root": str(packed)}
    options |= {"train#trainer#epoch_length": 1, "learning_rate": 1e-12}  # no epoch is better
    del options["sam2_checkpoint"]
    best = packed / "models" / "model.pt"
    content = best.read_bytes()
    for _ in range(2):  # again, with the last.pt of the first time
        monai.bundle.run("training", config_file=config_of(packed, "train"), **options)
        assert best.read_bytes() == content
        assert load(best.parent / "training" / "last.pt")["best_metric_epoch"] == 0, "the start was the best"
    run = {"config_file": config_of(packed, "train"), "output_dir": str(tmp_path / "elsewhere"), **options}
    monai.bundle.run("training", **run)
    expected, found = load(best), load(tmp_path / "elsewhere" / "model.pt")
    torch.testing.assert_close(found, expected)
    assert best.read_bytes() == content
