# SPDX-License-Identifier: Apache-2.0
"""Pixels marked as not labelled, in each bundle: they reach the loss and the metrics, and count in neither."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import parse
from PIL import Image, ImageSequence

from monai_sam2adapter import data

MARK = 128  # of masks of 0 and 255, and of class numbers


def mark(path: Path) -> None:
    """Mark the first half of the rows of a mask."""
    if path.name.endswith(".nii.gz"):
        image = nib.load(path)
        values = np.asarray(image.dataobj).astype(np.uint8)
        values[: len(values) // 2] = MARK
        nib.save(nib.Nifti1Image(values, image.affine, dtype=np.uint8), path)
    else:
        pages = [np.array(page) for page in ImageSequence.Iterator(Image.open(path))]
        for page in pages:
            page[: len(page) // 2] = MARK
        first, *others = map(Image.fromarray, pages)
        first.save(path, **({"save_all": True, "append_images": others} if others else {}))


@pytest.fixture(scope="module")
def marked(bundle: Path, options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Options of a run on a copy of the data whose masks are marked."""
    folder = tmp_path_factory.mktemp("marked") / "data"
    shutil.copytree(options["dataset_dir"], folder)
    options = {**options, "dataset_dir": str(folder), "cache_rate": 0.0, "output_dir": str(folder.parent / "models")}
    parser = parse(bundle, "train", **options)
    parts = [parser.get_parsed_content(f"{part}#dataset#data") for part in ("train", "validate")]
    for file in {item["label"].partition("#page")[0] for part in parts for item in part}:
        mark(Path(file))
    return options


@pytest.fixture(scope="module")
def config(bundle: Path, marked: dict[str, Any]) -> Any:
    return parse(bundle, "train", ignore_label=MARK, **marked)


def test_no_gradient_comes_from_them(config: Any) -> None:
    labels = next(iter(config.get_parsed_content("train#dataloader")))["label"]
    ignored = labels == MARK
    assert 0.1 < ignored.float().mean() < 0.9
    channels = config.get_parsed_content("num_classes")
    logits = torch.randn(len(labels), channels, *labels.shape[2:], requires_grad=True)
    loss = config.get_parsed_content("train#loss")(logits, labels)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad[ignored.expand_as(logits)].abs().max() == 0
    assert (logits.grad != 0).any()


def test_no_metric_counts_them(config: Any) -> None:
    case = config.get_parsed_content("validate#dataset")[0]
    ignored = case["label"] == MARK
    assert ignored.any()
    (handler,) = config.get_parsed_content("validate#key_metric").values()
    scores = []
    for side in (0.0, 9.0):  # another prediction there changes nothing
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(config.get_parsed_content("num_classes"), *case["label"].shape[1:], generator=generator)
        logits[-1:][ignored] = side
        finish = config.get_parsed_content("validate#inferer").postprocessing or dict
        item = {**finish({"pred": logits}), "label": case["label"]}
        item = config.get_parsed_content("validate#postprocessing")(item)
        handler.metric_fn.reset()
        handler.metric_fn(item["pred"][None], item["label"][None])
        scores.append(handler.metric_fn.aggregate())
    torch.testing.assert_close(*scores)
    assert scores[0].isfinite()


CHECKS = {
    "acdc": data.check_acdc,
    "isbi2012": data.check_isbi2012,
    "kvasir": data.check_kvasir,
    "picture": data.check_pictures,
    "sam2": data.check_pairs,
    "synapse": data.check_synapse,
    "volume": data.check_volumes,
}


def test_check_takes_the_same_option(bundle: Path, marked: dict[str, Any], dataset_dir: Path) -> None:
    check = CHECKS[bundle.name.split("_")[0]]
    folder = marked["dataset_dir"]

    def problems_of_labels(report: data.DatasetReport) -> list[str]:
        # a phantom is smaller than the split; and of what is left, a class may be all
        return [text for text in report.problems if "part" not in text and "is empty" not in text]

    report = check(folder, progress=False, ignore_label=MARK)
    assert problems_of_labels(report) == []
    whole = check(dataset_dir, progress=False)
    assert report.voxels.sum() < whole.voxels.sum()
    if not bundle.name.startswith("sam2_unext"):  # whose masks may have any gray
        try:
            problems = problems_of_labels(check(folder, progress=False))
        except ValueError as error:
            problems = [str(error)]
        assert any(folder in problem for problem in problems)


def test_evaluation_passes_it_on(bundle: Path, marked: dict[str, Any]) -> None:
    config = parse(bundle, "train", "evaluate", ignore_label=MARK, **marked)
    (handler,) = config.get_parsed_content("validate#key_metric").values()
    assert {metric.ignore_index for metric in handler.metrics.values()} == {handler.ignore_index} == {MARK}


def test_without_the_option_they_are_refused(bundle: Path, marked: dict[str, Any]) -> None:
    if bundle.name.startswith("sam2_unext"):
        pytest.skip("its masks may be soft: any gray value is one")
    with pytest.raises((RuntimeError, ValueError)) as caught:
        parse(bundle, "train", **marked).get_parsed_content("train#dataset")[0]
    causes, error = [], caught.value
    while error is not None:
        causes.append(str(error))
        error = error.__cause__
    assert any(str(MARK) in cause or "ignore_label" in cause for cause in causes), causes
