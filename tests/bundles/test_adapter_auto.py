# SPDX-License-Identifier: Apache-2.0
"""``--adapter auto``: chosen by training, and read by evaluation, inference, resuming and packing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import monai.bundle
import pytest
import torch
from monai.bundle import ConfigParser

from monai_sam2adapter.bundle import pack_bundle
from monai_sam2adapter.data import write_acdc_phantom

ACDC = Path(__file__).parents[2] / "bundles" / "acdc_cardiac_segmentation"
AUTO = {"adapter": "auto", "image_size": 32, "batch_size": 8, "device": "cpu", "num_workers": 0}
START = {"sam2_checkpoint": "random", "macs_budget": 8, "train#trainer#epoch_length": 1}


def config_of(bundle: Path, *names: str) -> list[str]:
    return [str(bundle / "configs" / f"{name}.json") for name in names]


def run(run_id: str, *names: str, **options: Any) -> None:
    monai.bundle.run(run_id, config_file=config_of(ACDC, *names), bundle_root=str(ACDC), **AUTO, **options)


def causes(error: BaseException | None) -> str:
    """MONAI wraps an error of a config in others of its own."""
    return "" if error is None else f"{error} {causes(error.__cause__)}"


@pytest.fixture(scope="module")
def acdc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("acdc")
    write_acdc_phantom(folder, num_train=1, num_val=1, num_test=1, progress=False)
    return folder


@pytest.fixture(scope="module")
def trained(acdc: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    run("training", "train", dataset_dir=str(acdc), output_dir=str(models), epochs=1, **START)
    return models


def stored(models: Path) -> dict[str, Any]:
    return json.loads((models / "adapter_choice.json").read_text(encoding="utf-8"))


def test_training_stores_the_choice_and_its_reason(trained: Path) -> None:
    choice = stored(trained)
    assert choice["adapter"] == "hp"  # at 32 pixels every heart is small
    assert choice["macs"] <= 8e9
    assert "fine structures" in choice["reason"]
    assert choice["profile"]["num_classes"] == 3
    width = torch.load(trained / "model.pt", weights_only=True)["image_encoder.trunk.blocks.0.adapters.hp.down.bias"]
    assert len(width) == 96 * choice["config"]["bottleneck_ratio"]  # of 96 channels


def test_evaluation_and_inference_read_it(acdc: Path, trained: Path, tmp_path: Path) -> None:
    weights = {"checkpoint_file": str(trained / "model.pt")}
    run("evaluating", "train", "evaluate", dataset_dir=str(acdc), output_dir=str(tmp_path / "eval"), **weights)
    assert (tmp_path / "eval" / "cases.csv").is_file()
    scan = sorted((acdc / "training").glob("*/*_frame01.nii.gz"))[0]
    run("inference", "inference", dataset_dir=str(scan), output_dir=str(tmp_path / "prediction"), **weights)
    assert list((tmp_path / "prediction").rglob("*.nii.gz"))


def test_inference_without_the_choice_says_what_is_missing(acdc: Path, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes((trained / "model.pt").read_bytes())
    options = {"checkpoint_file": str(tmp_path / "model.pt"), "output_dir": str(tmp_path / "prediction")}
    with pytest.raises(RuntimeError) as error:
        run("inference", "inference", dataset_dir=str(acdc / "training"), **options)
    assert "keep the two files together" in causes(error.value)


def test_a_resumed_run_keeps_it_and_needs_no_budget(acdc: Path, trained: Path) -> None:
    before = stored(trained)
    length = {"train#trainer#epoch_length": 1}
    options = {"dataset_dir": str(acdc), "output_dir": str(trained)}
    run("training", "train", epochs=2, resume=True, **options, **length)
    assert stored(trained) == before
    assert torch.load(trained / "last.pt", weights_only=True)["epoch"] == 2


def test_fails_before_training_without_a_budget(acdc: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as error:
        run("training", "train", dataset_dir=str(acdc), output_dir=str(tmp_path), sam2_checkpoint="random")
    assert "give macs_budget" in causes(error.value)
    assert not list(tmp_path.iterdir())


def test_a_packed_bundle_needs_no_choice(trained: Path, tmp_path: Path) -> None:
    packed = pack_bundle(ACDC, trained / "model.pt", tmp_path, settings={"adapter": "auto", "image_size": 32})
    monai.bundle.download(name=ACDC.name, url=packed.path.as_uri(), bundle_dir=tmp_path, progress=False)
    config = json.loads((tmp_path / ACDC.name / "configs" / "inference.json").read_text(encoding="utf-8"))
    choice = stored(trained)
    assert (config["adapter"], config["adapter_config"]) == (choice["adapter"], choice["config"])
    network = monai.bundle.load(ACDC.name, bundle_dir=tmp_path, device="cpu")
    saved = torch.load(trained / "model.pt", weights_only=True)
    assert all(torch.equal(tensor, saved[name]) for name, tensor in network.state_dict().items())


def test_packing_with_auto_needs_the_choice(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes((trained / "model.pt").read_bytes())
    with pytest.raises(FileNotFoundError, match=r"adapter_choice.json, which the training"):
        pack_bundle(ACDC, tmp_path / "model.pt", tmp_path, settings={"adapter": "auto"})


def test_every_bundle_chooses_for_its_own_network_and_labels(
    bundle: Path, smallest: dict[str, Any], dataset_dir: Path, tmp_path: Path
) -> None:
    options = {**AUTO, **START, **smallest, "dataset_dir": str(dataset_dir), "output_dir": str(tmp_path)}
    config = ConfigParser(ConfigParser.load_config_file(config_of(bundle, "train")[0]))
    config.update(options)
    config.get_parsed_content("prepare_adapter")
    choice = stored(tmp_path)
    trained = config.get_parsed_content("network_def").config
    assert trained["adapter"] == choice["adapter"]
    assert trained["adapter_config"]["bottleneck_ratio"] == choice["config"]["bottleneck_ratio"]
    assert choice["profile"]["num_classes"] == max(1, len(config.get_parsed_content("class_names")) - 1)

    used = ConfigParser(ConfigParser.load_config_file(config_of(bundle, "inference")[0]))
    used.update({**AUTO, **smallest, "checkpoint_file": str(tmp_path / "model.pt")})
    assert used.get_parsed_content("network_def").config == trained


def test_settings_of_the_adapter_reach_the_network_one_by_one_or_together(bundle: Path, smallest: dict) -> None:
    for given in ({"adapter_config#bottleneck_ratio": 0.5}, {"adapter_config": {"bottleneck_ratio": 0.5}}):
        config = ConfigParser(ConfigParser.load_config_file(config_of(bundle, "inference")[0]))
        config.update({"adapter": "lw", **smallest, **given})
        network = config.get_parsed_content("network_def")
        assert network.config["adapter_config"]["bottleneck_ratio"] == 0.5
