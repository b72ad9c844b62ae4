# SPDX-License-Identifier: Apache-2.0
"""Classes that overlap, in the bundles for anyone's data: what is trained, scored and written, against plain counts."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import BUNDLES, parse, run, train
from PIL import Image

from monai_sam2adapter.data import write_disc_phantom
from monai_sam2adapter.networks.weights import load_network_weights

FORMS = ["picture masks", "volume regions", "picture regions", "volume masks"]
SLOW = FORMS[2:]
NAMES = {"masks": ["large disc", "small disc"], "regions": ["large disc", "both"]}
METRICS = ["dice", "iou", "miou_pooled", "ece"]


class Run(NamedTuple):
    bundle: Path
    data: Path
    models: Path
    options: dict[str, Any]
    is_picture: bool
    of_regions: bool

    @property
    def names(self) -> list[str]:
        return NAMES["regions" if self.of_regions else "masks"]


@pytest.fixture(
    scope="module", params=[pytest.param(form, marks=pytest.mark.slow) if form in SLOW else form for form in FORMS]
)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training, whose network is then replaced by one that knows nothing, so that it finds scattered pixels."""
    kind, labels_are = request.param.split()
    folder = tmp_path_factory.mktemp("discs")
    write_disc_phantom(folder / "data", request.param, num_images=5, size=40, progress=False)
    bundle = BUNDLES / f"{kind}_segmentation"
    options = {"label_type": "overlapping", "num_workers": 0}
    train(bundle, folder / "data", folder / "models", **options, **{"train#trainer#epoch_length": 2})
    weights = folder / "models" / "model.pt"
    network = parse(bundle, "inference", checkpoint_file=str(weights)).get_parsed_content("network_def")
    load_network_weights(network, weights)  # those of two classes, and no background
    torch.manual_seed(1)
    network = type(network)(**network.config)
    torch.save(network.state_dict(), weights)
    return Run(bundle, folder / "data", weights.parent, {"num_workers": 0}, kind == "picture", labels_are == "regions")


def true_masks(done: Run, case: str) -> np.ndarray:
    """As the files have them, ``(2, X, Y[, Z])``."""
    if not done.is_picture:
        labels = np.asarray(nib.load(done.data / "labels" / f"{case}.nii.gz").dataobj)
        return np.stack([labels >= 1, labels == 2]) if done.of_regions else np.moveaxis(labels, -1, 0) > 0
    if done.of_regions:
        labels = np.asarray(Image.open(done.data / "labels" / f"{case}.png")).T
        return np.stack([labels >= 1, labels == 2])
    return np.stack([np.asarray(Image.open(done.data / "masks" / n / f"{case}.png")).T > 0 for n in done.names])


def written_masks(done: Run, folder: Path, case: str) -> np.ndarray:
    if not done.is_picture:
        values = np.asarray(nib.load(folder / f"{case}_probabilities.nii.gz").dataobj)
        return np.moveaxis(values, -1, 0) > 0.5
    pages = Image.open(folder / f"{case}_probabilities.tif")
    found = []
    for page in range(pages.n_frames):
        pages.seek(page)
        found.append(np.asarray(pages).T > 0.5)
    return np.stack(found)


@pytest.fixture(scope="module")
def predicted(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predicted")
    options = {**trained.options, "save_probabilities": True, "save_uncertainty": True, "tta_flips": [[0]]}
    weights = trained.models / "model.pt"
    run(
        trained.bundle,
        "inference",
        "inference",
        dataset_dir=trained.data / "images",
        output_dir=folder,
        checkpoint_file=weights,
        **options,
    )
    masks = np.stack([written_masks(trained, folder, f"{n:03d}").mean(axis=(1, 2)) for n in range(5)])
    assert 0.02 < masks.mean() < 0.98, "scattered pixels"
    return folder


def test_the_description_has_the_labels_and_no_background(trained: Run) -> None:
    kept = json.loads((trained.models / "dataset.json").read_text())
    assert kept["class_names"] == trained.names
    assert kept["label_type"] == "overlapping"
    assert kept.get("regions") == ([[1, 2], [2]] if trained.of_regions else None)


def test_batches_have_a_mask_for_each_class_and_the_loss_a_sigmoid(trained: Run) -> None:
    options = {"dataset_dir": str(trained.data), "label_type": "overlapping", "output_dir": str(trained.models)}
    config = parse(trained.bundle, "train", num_workers=0, **options)
    label = next(iter(config.get_parsed_content("train#dataloader")))["label"]
    assert label.shape[1] == 2
    assert set(label.unique().tolist()) == {0, 1}
    assert (label.sum(dim=1) == 2).any()
    loss = config.get_parsed_content("train#loss")
    certain = 20 * (2 * label.float() - 1)
    assert loss(certain, label) < 1e-3 < loss(-certain, label)


def test_results_are_written_as_the_probabilities_say(trained: Run, predicted: Path) -> None:
    for case in (f"{n:03d}" for n in range(5)):
        masks = written_masks(trained, predicted, case)
        if trained.of_regions:  # nnU-Net: later ones over earlier ones
            expected = np.where(masks[1], 2, np.where(masks[0], 1, 0))
            name = f"{case}_seg.{'png' if trained.is_picture else 'nii.gz'}"
            found = Image.open(predicted / name) if trained.is_picture else nib.load(predicted / name).dataobj
            found = np.asarray(found).T if trained.is_picture else np.asarray(found)
            np.testing.assert_array_equal(found, expected)
        elif trained.is_picture:
            for name, mask in zip(trained.names, masks, strict=True):
                picture = Image.open(predicted / f"{case}_{name.replace(' ', '_')}_seg.png")
                np.testing.assert_array_equal(np.asarray(picture).T, 255 * mask)
        else:
            np.testing.assert_array_equal(
                np.moveaxis(np.asarray(nib.load(predicted / f"{case}_seg.nii.gz").dataobj), -1, 0), masks
            )
        assert (predicted / "overlays" / f"{case}.png").is_file()


def test_scores_are_those_counted_by_hand(trained: Run, predicted: Path, tmp_path: Path) -> None:
    run(
        trained.bundle,
        "evaluating",
        "train",
        "evaluate",
        dataset_dir=trained.data,
        checkpoint_file=trained.models / "model.pt",
        output_dir=tmp_path,
        metrics=METRICS,
        **trained.options,
        **{"validate#inferer#flips": [[0]]},
    )
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["class_names"] == results["confusion_matrix"]["class_names"] == trained.names
    sums = np.zeros((3, 2))
    for case, dice in zip(results["cases"], results["metrics"]["dice"]["values"], strict=True):
        pred, truth = written_masks(trained, predicted, case), true_masks(trained, case)
        axes = tuple(range(1, pred.ndim))
        counts = np.array([(pred & truth).sum(axes), pred.sum(axes), truth.sum(axes)])
        sums += counts
        assert dice == pytest.approx((2 * counts[0] / (counts[1] + counts[2])).tolist())
    pooled = [row["mean"] for row in results["pooled"]["miou_pooled"]["summary"]]
    expected = sums[0] / (sums[1] + sums[2] - sums[0])
    assert pooled == pytest.approx([*expected, expected.mean()])
    with open(tmp_path / "summary.csv", newline="") as file:
        assert {row["class"] for row in csv.DictReader(file)} == {*trained.names, "mean"}
    assert list((tmp_path / "overlays").glob("*.png"))


def test_the_largest_part_of_each_class_is_kept_the_first_too(trained: Run) -> None:
    options = {"dataset_dir": str(trained.data), "checkpoint_file": str(trained.models / "model.pt")}
    masks = torch.zeros(2, 12, 12) if trained.is_picture else torch.zeros(2, 12, 12, 3)
    masks[:, 2:6, 2:6] = 1
    expected = masks.clone()
    masks[:, 9, 9] = 1
    for configs, key in ((["inference"], "postprocessing"), (["train", "evaluate"], "validate#postprocessing")):
        config = parse(trained.bundle, *configs, largest_component=True, **options, **trained.options)
        found = config.get_parsed_content(key)({"pred": masks.clone(), "label": masks})["pred"]
        assert torch.equal(torch.as_tensor(found), expected)


@pytest.mark.parametrize("kind", ["picture", "volume"])
def test_pixels_to_ignore_give_no_gradient_and_count_in_no_metric(kind: str, tmp_path: Path) -> None:
    write_disc_phantom(tmp_path, f"{kind} regions", num_images=2, size=40, progress=False)
    content = json.loads((tmp_path / "dataset.json").read_text())
    content["labels"]["ignore"] = 3
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    for path in (tmp_path / "labels").iterdir():
        if kind == "picture":
            values = np.array(Image.open(path))
            values[:, :20] = 3
            Image.fromarray(values).save(path)
        else:
            image = nib.load(path)
            values = np.asarray(image.dataobj).copy()
            values[:20] = 3
            nib.save(nib.Nifti1Image(values, image.affine), path)
    options = {"dataset_dir": str(tmp_path), "label_type": "overlapping", "ignore_label": 3, "num_workers": 0}
    config = parse(BUNDLES / f"{kind}_segmentation", "train", output_dir=str(tmp_path / "m"), cache_rate=0.0, **options)
    label = next(iter(config.get_parsed_content("train#dataloader")))["label"]
    ignored = label == 3
    assert 0.1 < ignored.float().mean() < 0.9
    logits = torch.randn(label.shape, requires_grad=True)
    config.get_parsed_content("train#loss")(logits, label).backward()
    assert logits.grad[ignored].abs().max() == 0
    assert (logits.grad[~ignored] != 0).all()

    case = config.get_parsed_content("validate#dataset")[0]
    (handler,) = config.get_parsed_content("validate#key_metric").values()
    scores = []
    for there in (-5.0, 5.0):  # another prediction there changes nothing
        logits = torch.where(
            case["label"] == 3, there, torch.randn(case["label"].shape, generator=torch.manual_seed(0))
        )
        finish = config.get_parsed_content("validate#inferer").postprocessing or dict
        item = config.get_parsed_content("validate#postprocessing")(
            {**finish({"pred": logits}), "label": case["label"]}
        )
        handler.metric_fn.reset()
        handler.metric_fn(item["pred"][None], item["label"][None])
        scores.append(handler.metric_fn.aggregate())
    torch.testing.assert_close(*scores)
    assert 0 < scores[0] < 1


@pytest.mark.parametrize("kind", ["picture", "volume"])
def test_exclusive_is_the_default(kind: str) -> None:
    config = parse(BUNDLES / f"{kind}_segmentation", "train")
    assert config.get_parsed_content("label_type") == "exclusive"
    loss = config.get_parsed_content("train#loss")
    assert loss.dice.softmax
    assert loss.dice.to_onehot_y
    assert not loss.dice.sigmoid
    steps = config.get_parsed_content(f"load_{'image' if kind == 'picture' else 'volume'}").transforms
    names = [type(step).__name__ for step in steps]
    assert "RequireLabelsd" in names
    assert "LabelsToMasksd" not in names
