# SPDX-License-Identifier: Apache-2.0
"""Evaluation scores what inference writes, and probabilities where a metric asks for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import ACDC, BUNDLES, parse, run
from monai.networks.utils import one_hot
from monai.transforms import LoadImage

from monai_sam2adapter.data import acdc_datalist, write_acdc_phantom, write_kvasir_phantom
from monai_sam2adapter.metrics import create_metrics

KVASIR = BUNDLES / "kvasir_polyp_segmentation"


@pytest.fixture(scope="module", params=[ACDC, KVASIR], ids=["volumes", "pictures"])
def bundle_and_options(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A bundle and its options for a phantom, and a network that knows nothing, so that it finds scattered pixels."""
    bundle = request.param
    folder = tmp_path_factory.mktemp("evaluation")
    if bundle == ACDC:
        write_acdc_phantom(folder / "data", num_train=1, num_val=1, num_test=1, progress=False)
    else:
        write_kvasir_phantom(folder / "data", num_images=6, progress=False)
    torch.manual_seed(1)
    network = parse(bundle, "inference").get_parsed_content("network_def")
    torch.save(network.state_dict(), folder / "model.pt")
    return bundle, {"checkpoint_file": folder / "model.pt", "num_workers": 0}, folder / "data"


def evaluate(bundle: Path, data: Path, output_dir: Path, **options: Any) -> dict[str, Any]:
    run(bundle, "evaluating", "train", "evaluate", dataset_dir=data, output_dir=output_dir, **options)
    return json.loads((output_dir / "results.json").read_text(encoding="utf-8"))


def test_scores_what_inference_writes_with_the_largest_component_only(bundle_and_options: Any, tmp_path: Path) -> None:
    bundle, options, data = bundle_and_options
    options = {**options, "metrics": ["dice", "miou_pooled"]}
    plain = evaluate(bundle, data, tmp_path / "plain", **options)
    options["largest_component"] = True
    results = evaluate(bundle, data, tmp_path / "largest", **options)
    values = np.array(results["metrics"]["dice"]["values"], dtype=float)
    assert not np.allclose(values, np.array(plain["metrics"]["dice"]["values"], dtype=float), equal_nan=True)

    parser = parse(bundle, "train", "evaluate", dataset_dir=str(data), **{"checkpoint_file": "", "cache_rate": 0.0})
    items = parser.get_parsed_content("validate#dataset#data")
    del options["metrics"]
    images = [item["image"] for item in items]
    run(bundle, "inference", "inference", dataset_dir=images, output_dir=tmp_path / "out", **options)
    metric = create_metrics(["dice"])["dice"]
    for item in items:
        name = Path(item["image"]).name.removesuffix(".gz").rpartition(".")[0]
        (written,) = (tmp_path / "out").glob(f"{name}_seg.*")
        pair = [LoadImage(image_only=True, ensure_channel_first=True)(path) for path in (written, item["label"])]
        if bundle == KVASIR:  # black and white
            pair = [image[:1] >= 128 for image in pair]
        metric(*(one_hot(image[None], len(results["class_names"]) + 1) for image in pair))
    np.testing.assert_allclose(metric.get_buffer().numpy(), values, atol=1e-3)


def test_probabilities_are_scored_where_a_metric_asks_for_them(bundle_and_options: Any, tmp_path: Path) -> None:
    bundle, options, data = bundle_and_options
    results = evaluate(bundle, data, tmp_path, **options, metrics=["dice", "miou_pooled", "ece", "mce"])
    ece, mce = (np.array(results["metrics"][name]["values"]) for name in ("ece", "mce"))
    assert ece.shape == (len(results["cases"]), len(results["class_names"]))
    assert (ece > 0).all()
    assert (ece <= mce).all()
    assert (mce <= 1).all()


@pytest.mark.parametrize("bundle_and_options", [ACDC], ids=["volumes"], indirect=True)
def test_cardiac_function_is_that_of_the_files(bundle_and_options: Any, tmp_path: Path) -> None:
    bundle, options, data = bundle_and_options
    measures = evaluate(bundle, data, tmp_path, **options)["agreement"]["measures"]
    for item in acdc_datalist(data, "test"):
        label = nib.load(item["label"])
        voxel = float(np.prod(label.header.get_zooms()[:3])) / 1000
        right, wall, left = (voxel * np.count_nonzero(np.asarray(label.dataobj) == number) for number in (1, 2, 3))
        phase = {"ED": "edv", "ES": "esv"}[item["phase"]]
        for side, volume in (("lv", left), ("rv", right)):
            assert measures[f"{side}_{phase}"]["reference"] == pytest.approx([volume])
        if phase == "edv":
            assert measures["myocardial_mass"]["reference"] == pytest.approx([1.05 * wall])
    volumes = [measures[key]["reference"][0] for key in ("lv_edv", "lv_esv")]
    assert measures["lv_ef"]["reference"] == pytest.approx([100 * (volumes[0] - volumes[1]) / volumes[0]])
    assert 20 < measures["lv_ef"]["reference"][0] < 90
    assert (tmp_path / "bland_altman_lv_ef.png").is_file()
