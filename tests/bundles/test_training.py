# SPDX-License-Identifier: Apache-2.0
"""Every bundle trained for an epoch and evaluated, on a phantom of its data set, as MONAI's command line runs it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import monai.bundle
import pytest
from monai.bundle import ConfigParser

# The smallest network and images: nothing here is about accuracy.
SMALL = {"adapter": "full", "image_size": 32, "batch_size": 4, "device": "cpu", "num_workers": 0, "cache_rate": 1.0}


def config_of(bundle: Path, name: str) -> str:
    return str(bundle / "configs" / f"{name}.json")


@pytest.fixture(scope="module")
def options(bundle: Path, dataset_dir: Path, smallest: dict[str, Any]) -> dict[str, Any]:
    """Options of every command; the crop must fit into the image where the bundle crops."""
    train = json.loads(Path(config_of(bundle, "train")).read_text(encoding="utf-8"))
    crop = {"crop_size": 32} if "crop_size" in train else {}
    return {"bundle_root": str(bundle), "dataset_dir": str(dataset_dir), **SMALL, **smallest, **crop}


@pytest.fixture(scope="module")
def evaluated(bundle: Path, options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a network that has seen one epoch."""
    models, results = (tmp_path_factory.mktemp(name) for name in ("models", "eval"))
    train, evaluate = config_of(bundle, "train"), config_of(bundle, "evaluate")
    short = {"epochs": 1, "learning_rate": 1e-3, "train#trainer#epoch_length": 2}
    monai.bundle.run("training", config_file=train, output_dir=str(models), **short, **options)
    checkpoint = {"checkpoint_file": str(models / "model.pt"), "output_dir": str(results)}
    monai.bundle.run("evaluating", config_file=[train, evaluate], **checkpoint, **options)
    return results


def test_writes_a_score_for_every_test_case_and_class(bundle: Path, options: dict[str, Any], evaluated: Path) -> None:
    with (evaluated / "cases.csv").open(newline="", encoding="utf-8") as file:
        rows = [(row["case"], row["class"]) for row in csv.DictReader(file)]
    parser = parsed(bundle, options, "evaluate")
    cases = [item["case"] for item in parser.get_parsed_content("validate#dataset#data")]
    names = parser.get_parsed_content("class_names")
    names = names[1:] or names  # a network of one channel has no background
    assert sorted(rows) == sorted((case, name) for case in cases for name in names)
    results = json.loads((evaluated / "results.json").read_text(encoding="utf-8"))
    assert results["cases"] == cases
    assert (evaluated / "report.html").stat().st_size > 0


def test_keeps_images_in_memory_from_the_start(bundle: Path, options: dict[str, Any]) -> None:
    parser = parsed(bundle, options)
    for part in ("train", "validate"):
        dataset = parser.get_parsed_content(f"{part}#dataset")
        assert len(dataset._cache) == len(dataset.data) > 0, part


def test_a_broken_file_stops_the_run_before_it_starts(bundle: Path, options: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(options["dataset_dir"], tmp_path / "data")
    options = {**options, "dataset_dir": str(tmp_path / "data")}
    items = parsed(bundle, options).get_parsed_content("train#dataset#data")
    broken = Path(items[-1]["image"].split("#page")[0])
    broken.write_bytes(b"no image at all")
    with pytest.raises(RuntimeError) as error:
        parsed(bundle, options).get_parsed_content("train#dataset")
    assert any(broken.name in cause for cause in causes(error.value))


def causes(error: BaseException | None) -> list[str]:
    """MONAI wraps an error of a transform in others of its own."""
    return [] if error is None else [str(error), *causes(error.__cause__)]


def parsed(bundle: Path, options: dict[str, Any], *more: str) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([config_of(bundle, name) for name in ("train", *more)])
    parser.update(options)
    return parser
