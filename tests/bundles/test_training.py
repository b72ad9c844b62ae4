# SPDX-License-Identifier: Apache-2.0
"""Every bundle trained for two steps and evaluated, on a phantom of its data set."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import fails_with, load, parse, read, run, train


def test_the_network_gets_plain_tensors_in_training_and_validation(training: tuple[Path, set[type]]) -> None:
    assert training[1] == {torch.Tensor}


def test_keeps_what_was_trained_and_the_whole_best_network(trained: Path) -> None:
    last, best = load(trained.with_name("last.pt")), load(trained)
    assert last["epoch"] == 1
    assert last["network"].keys() < best.keys()
    assert all(isinstance(value, torch.Tensor) for value in best.values())


@pytest.mark.parametrize(
    ("names", "loading"), [(("train", "evaluate"), "validate#evaluator#network"), (("inference",), "evaluator#network")]
)
def test_the_last_epoch_serves_as_the_best_one_does(
    names: tuple[str, ...], loading: str, bundle: Path, options: dict[str, Any], trained: Path
) -> None:
    """Their only epoch was both."""
    known = read(bundle, names[0])
    options = {key: value for key, value in options.items() if key in known}
    parser = parse(bundle, *names, checkpoint_file=str(trained.with_name("last.pt")), **options)
    parser.get_parsed_content(loading)
    state = parser.get_parsed_content("network_def").state_dict()
    torch.testing.assert_close(dict(state), load(trained), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["model.pt", "last.pt"])
def test_another_training_starts_from_an_earlier_one(
    name: str, bundle: Path, options: dict[str, Any], trained: Path
) -> None:
    options = {**options, "image_size": 64, "init_checkpoint": str(trained.with_name(name))}
    parser = parse(bundle, "train", **options)
    parser.get_parsed_content("network")
    state = parser.get_parsed_content("network_def").state_dict()
    torch.testing.assert_close(dict(state), load(trained), rtol=0, atol=0)


def test_writes_a_score_for_every_test_case_and_class(
    bundle: Path, options: dict[str, Any], trained: Path, evaluated: Path
) -> None:
    with (evaluated / "cases.csv").open(newline="", encoding="utf-8") as file:
        rows = [(row["case"], row["class"]) for row in csv.DictReader(file)]
    parser = parse(bundle, "train", "evaluate", checkpoint_file=str(trained), **options)
    cases = [item["case"] for item in parser.get_parsed_content("validate#dataset#data")]
    names = parser.get_parsed_content("class_names")
    names = names[1:] or names  # a network of one channel has no background
    assert sorted(rows) == sorted((case, name) for case in cases for name in names)
    results = json.loads((evaluated / "results.json").read_text(encoding="utf-8"))
    assert results["cases"] == cases
    assert (evaluated / "report.html").stat().st_size > 0


def test_keeps_images_in_memory_from_the_start(bundle: Path, options: dict[str, Any]) -> None:
    parser = parse(bundle, "train", **options)
    for part in ("train", "validate"):
        dataset = parser.get_parsed_content(f"{part}#dataset")
        assert len(dataset._cache) == len(dataset.data) > 0, part


def test_random_transforms_run_on_batches_on_request(bundle: Path, options: dict[str, Any]) -> None:
    batches = []
    for enabled in (False, True):
        parser = parse(bundle, "train", **options, device_transforms=enabled, sam2_checkpoint="random")
        parser.get_parsed_content("train#sampler").set_epoch(1)
        batch = next(iter(parser.get_parsed_content("train#dataloader")))
        batches.append((batch, parser.get_parsed_content("train#trainer").prepare_batch(batch, "cpu")))
    (on_items, expected), (drawn, found) = batches
    for key, one, other in zip(("image", "label"), expected, found, strict=True):
        assert (one.shape, one.dtype, type(one)) == (other.shape, other.dtype, type(other))
        assert torch.equal(one, on_items[key])
        assert not torch.equal(other, drawn[key])
    assert set(found[1].unique().tolist()) <= set(drawn["label"].unique().tolist())


def test_a_broken_file_stops_the_run_before_it_starts(bundle: Path, options: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(options["dataset_dir"], tmp_path / "data")
    options = {**options, "dataset_dir": str(tmp_path / "data")}
    items = parse(bundle, "train", **options).get_parsed_content("train#dataset#data")
    broken = Path(items[-1]["image"].split("#page")[0])
    broken.write_bytes(b"no image at all")
    with fails_with(broken.name):
        parse(bundle, "train", **options).get_parsed_content("train#dataset")


def test_learns_and_scores_the_same_however_the_volumes_are_stored(
    bundle: Path, options: dict[str, Any], trained: Path, evaluated: Path, tmp_path: Path
) -> None:
    """Each volume with its axes in another order and direction."""
    if "slice_axis" not in read(bundle, "train"):
        pytest.skip("no bundle for volumes")
    shutil.copytree(options["dataset_dir"], tmp_path / "data")
    items = parse(bundle, "train", "evaluate", **options).get_parsed_content("train#dataset#data")
    items = [*items, *parse(bundle, "train", "evaluate", **options).get_parsed_content("validate#dataset#data")]
    for number, item in enumerate(items):
        for key in ("image", "label"):
            path = tmp_path / "data" / Path(item[key]).relative_to(options["dataset_dir"])
            image = nib.load(path)
            stored = [[(1, -1), (2, 1), (0, 1)], [(2, 1), (1, 1), (0, -1)], [(0, 1), (2, -1), (1, 1)]][number % 3]
            nib.save(image.as_reoriented(np.array(stored)), path)
    moved = {**options, "dataset_dir": str(tmp_path / "data")}
    train(bundle, output_dir=tmp_path / "models", **{**moved, "train#trainer#epoch_length": 2})
    before, after = load(trained), load(tmp_path / "models/model.pt")
    assert all(torch.equal(before[name], after[name]) for name in before)
    run(bundle, "evaluating", "train", "evaluate", checkpoint_file=trained, output_dir=tmp_path / "eval", **moved)
    expected, found = (json.loads((folder / "results.json").read_text()) for folder in (evaluated, tmp_path / "eval"))
    assert expected["metrics"] == found["metrics"]
