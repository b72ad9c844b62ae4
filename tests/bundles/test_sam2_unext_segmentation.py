# SPDX-License-Identifier: Apache-2.0
"""The SAM2-UNeXT bundle from training to evaluation, on phantoms; what all bundles share is tested elsewhere."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import bundle_runs
import pytest
from bundle_runs import BUNDLES, fails_with, load

from monai_sam2adapter.data import write_pair_phantom

pytest.importorskip("timm", reason="timm is missing; install the extra 'unext'")
pytest.importorskip("py_sod_metrics", reason="pysodmetrics is missing; install the extra 'sod'")

BUNDLE = BUNDLES / "sam2_unext_segmentation"
# The smallest networks that train: nothing here is about accuracy.
SMALL = {"adapter": "bottleneck", "variant": "tiny", "image_size": 64, "batch_size": 2, "num_workers": 0}
SMALL_DINO = {"dino_variant": "small", "dino_size": 28}
UNET = {
    "network_def": {
        "_target_": "monai_sam2adapter.networks.nets.SAM2UNet",
        "variant": "@variant",
        "adapter": "@adapter",
    }
}
MEASURES = {
    *("s_measure", "e_mean", "e_max", "e_adaptive", "f_weighted", "f_mean", "f_max", "f_adaptive", "mae"),
    *("dice", "iou"),
}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    write_pair_phantom(folder, num_train=4, num_test=1, task="camouflaged", progress=False)
    return folder


def run(run_id: str, *names: str, **options: Any) -> None:
    dino = {} if "network_def" in options else SMALL_DINO
    bundle_runs.run(BUNDLE, run_id, *names, task="camouflaged", **{**SMALL, **dino, **options})


def train(phantom: Path, output_dir: Path, **options: Any) -> None:
    run("training", "train", **{"dataset_dir": phantom, "output_dir": output_dir, "epochs": 1, **options})


def evaluate(phantom: Path, weights: Path, output_dir: Path, **options: Any) -> dict[str, Any]:
    options = {"checkpoint_file": weights / "model.pt", "output_dir": output_dir, "dataset_dir": phantom, **options}
    run("evaluating", "train", "evaluate", **options)
    return read(output_dir)


def read(output_dir: Path) -> dict[str, Any]:
    return json.loads((output_dir / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def trained(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output_dir = tmp_path_factory.mktemp("models")
    train(phantom, output_dir, sam2_checkpoint="random")
    return output_dir


@pytest.fixture(scope="module")
def evaluated(phantom: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output_dir = tmp_path_factory.mktemp("eval")
    evaluate(phantom, trained, output_dir)
    return output_dir


class TestTraining:
    def test_trains_adapters_and_decoder_alone(self, trained: Path) -> None:
        state = load(trained / "last.pt")
        assert state["epoch"] == 1
        (group,) = state["optimizer"]["param_groups"]
        assert group["weight_decay"] == 5e-4
        # the 12 blocks' adapters of two linear layers, and 4 + 4 + 4 * 6 + 1 layers of the decoder, as many biases
        names = [name for name in state["network"] if not name.startswith(("dino.", "image_encoder."))]
        decoder = [name for name in names if "running_" not in name and "num_batches" not in name]
        assert len(group["params"]) == 12 * 4 + len(decoder)

    def test_weights_of_both_encoders_are_asked_for(self, phantom: Path, tmp_path: Path) -> None:
        with fails_with("no SAM 2 weights were given, and image_encoder, dino would stay random"):
            train(phantom, tmp_path / "run")
        with fails_with("no.pth; give DINOv2's weights, or 'timm' to download them"):
            train(phantom, tmp_path / "run", dinov2_checkpoint=tmp_path / "no.pth", sam2_checkpoint="random")
        assert not (tmp_path / "run").exists()


class TestEvaluation:
    def test_scores_every_test_set_by_every_measure(self, evaluated: Path) -> None:
        results = read(evaluated)
        assert results["cases"] == [f"{name}_0001" for name in ("CAMO", "CHAMELEON", "COD10K", "NC4K")]
        assert results["metrics"].keys() == MEASURES
        assert results["class_names"] == ["object"]
        assert results["about"]["task"] == "camouflaged"
        assert results["about"]["predictions rescaled"] == "False"
        with (evaluated / "cases.csv").open(newline="", encoding="utf-8") as file:
            cases = list(csv.DictReader(file))
        assert len(cases) == 4
        assert set(cases[0]) == {"case", "class"} | MEASURES
        assert "S-measure" in (evaluated / "report.html").read_text(encoding="utf-8")
        assert len(list((evaluated / "overlays").glob("*.png"))) == 4

    def test_rescaled_predictions_of_one_test_set(
        self, phantom: Path, trained: Path, evaluated: Path, tmp_path: Path
    ) -> None:
        rescaled = evaluate(phantom, trained, tmp_path, split="COD10K", rescale_predictions=True)
        assert rescaled["cases"] == ["COD10K_0001"]
        assert rescaled["about"]["predictions rescaled"] == "True"
        results = read(evaluated)
        with fails_with("rescale_predictions must be True or False, got 'false'"):
            evaluate(phantom, trained, tmp_path, rescale_predictions="false")
        as_it_is = results["metrics"]["mae"]["values"][results["cases"].index("COD10K_0001")][0]
        assert rescaled["metrics"]["mae"]["values"][0][0] != pytest.approx(as_it_is)


def test_sam2_unet_in_its_place_is_trained_with_deep_supervision_on_folders_of_ones_own(
    phantom: Path, tmp_path: Path
) -> None:
    nc4k = ["TestDataset/NC4K/Imgs", "TestDataset/NC4K/GT"]
    folders = {"train": ["TrainDataset/Imgs", "TrainDataset/GT"], "val": nc4k}
    train(phantom, tmp_path, sam2_checkpoint="random", folders=folders, **UNET)
    assert any(name.startswith("side1.") for name in load(tmp_path / "model.pt"))
