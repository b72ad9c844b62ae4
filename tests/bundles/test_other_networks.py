# SPDX-License-Identifier: Apache-2.0
"""MONAI's own networks in our bundles, by ``network_def``: trained, evaluated and run as ours are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import monai.bundle
import pytest
import torch
from bundle_runs import SHORT, config_of, fails_with, load

FAST_BUNDLES = {"acdc_cardiac_segmentation", "kvasir_polyp_segmentation"}


def network_def(bundle: Path, width: int = 8) -> dict[str, Any]:
    channels = 3 if bundle.name.split("_")[0] in ("kvasir", "picture", "sam2") else 1
    return {
        "_target_": "monai.networks.nets.UNet",
        "spatial_dims": 2,
        "in_channels": channels,
        "out_channels": "@num_classes",
        "channels": [width, 2 * width, 4 * width],
        "strides": [2, 2],
    }


def run(bundle: Path, run_id: str, *names: str, **options: Any) -> None:
    """Without options that only our networks have: they are errors where nothing refers to them."""
    options = {"image_size": 32, "batch_size": 4, "device": "cpu", "bundle_root": str(bundle), **options}
    options = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
    monai.bundle.run(run_id, config_file=config_of(bundle, *names), **options)


def train(bundle: Path, output_dir: Path, **options: Any) -> None:
    run(bundle, "training", "train", output_dir=output_dir, **{**SHORT, "sam2_checkpoint": None, **options})


@pytest.fixture
def given(bundle: Path, options: dict[str, Any]) -> dict[str, Any]:
    if bundle.name.startswith("sam2_unext"):
        pytest.skip("its loss is that of SAM2-UNeXT's several outputs")
    return {**options, "network_def": network_def(bundle)}


def test_a_unet_is_trained_resumed_evaluated_and_run(bundle: Path, given: dict[str, Any], tmp_path: Path) -> None:
    models = tmp_path / "models"
    train(bundle, output_dir=models, **{**given, "train#trainer#epoch_length": 2})
    train(bundle, output_dir=models, **{**given, "train#trainer#epoch_length": 2, "epochs": 2, "resume": True})
    assert load(models / "last.pt")["epoch"] == 2
    places = {"checkpoint_file": models / "model.pt", "output_dir": tmp_path / "eval"}
    run(bundle, "evaluating", "train", "evaluate", **places, **given)
    assert (tmp_path / "eval" / "results.json").is_file()
    cases = sorted(
        path for path in Path(given["dataset_dir"]).rglob("*.*") if path.suffix in (".gz", ".jpg", ".png", ".tif")
    )
    places = {"checkpoint_file": models / "model.pt", "output_dir": tmp_path / "out", "dataset_dir": cases[0]}
    run(bundle, "inference", "inference", **places, network_def=given["network_def"])
    assert list((tmp_path / "out").rglob("*_seg.*"))


def test_a_new_training_starts_from_an_earlier_one(bundle: Path, given: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = {**given, "train#trainer#epoch_length": 1}
    train(bundle, output_dir=tmp_path / "first", **options)
    start = {**options, "init_checkpoint": tmp_path / "first" / "model.pt", "learning_rate": 1e-12}
    train(bundle, output_dir=tmp_path / "second", **start)
    first, second = load(tmp_path / "first" / "model.pt"), load(tmp_path / "second" / "model.pt")
    weights = [name for name, value in first.items() if value.is_floating_point()]
    torch.testing.assert_close({k: second[k] for k in weights}, {k: first[k] for k in weights})


def test_weights_of_sam2_and_of_another_unet_are_refused(bundle: Path, given: dict[str, Any], tmp_path: Path) -> None:
    with fails_with("UNet has no SAM 2 to load sam2.1_hiera_tiny into; leave it out."):
        train(bundle, output_dir=tmp_path, **{**given, "sam2_checkpoint": "sam2.1_hiera_tiny"})
    options = {**given, "train#trainer#epoch_length": 1}
    train(bundle, output_dir=tmp_path, **options)
    wider = {**given, "network_def": network_def(bundle, width=16)}
    with fails_with("model.pt does not fit the network", "Give the network_def that it was trained with"):
        run(bundle, "evaluating", "train", "evaluate", checkpoint_file=tmp_path / "model.pt", **wider)
