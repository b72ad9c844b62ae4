# SPDX-License-Identifier: Apache-2.0
"""The bundles are what their templates and overlays make, and an overlay with a mistake makes nothing."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from bundle_runs import BUNDLES


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", BUNDLES / "_templates" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_bundles_are_those_committed(generate: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0, f"run `make bundles`: {capsys.readouterr().out}"


def make(generate: ModuleType, folder: Path, **overlay: Any) -> dict[str, Any]:
    (folder / "overlay.json").write_text(json.dumps({"template": "volume", **overlay}))
    return {name: json.loads(text) for name, text in generate.bundle_files(folder).items() if name.endswith("json")}


def test_an_overlay_changes_adds_and_deletes(generate: ModuleType, tmp_path: Path) -> None:
    name = "configs/train.json"
    plain = make(generate, tmp_path)[name]
    found = make(
        generate,
        tmp_path,
        change={name: {"image_size": 256, "train#handlers#0#_target_": "torch.nn.Identity"}},
        add={name: {"image_size": {"crop_size": 128}, "train#handlers#0": [{"_target_": "torch.nn.ReLU"}]}},
        delete={name: ["val_interval"]},
    )[name]
    assert found["image_size"] == 256
    keys = [key for key in plain if key != "val_interval"]
    keys.insert(keys.index("image_size") + 1, "crop_size")
    assert list(found) == keys
    assert [each["_target_"] for each in found["train"]["handlers"]] == [
        *("torch.nn.Identity", "torch.nn.ReLU"),
        *(each["_target_"] for each in plain["train"]["handlers"][1:]),
    ]


TRAIN = "configs/train.json"


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({"change": {TRAIN: {"image_sise": 256}}},
         "change image_sise in configs/train.json: there is no 'image_sise'; there is image_s"),
        ({"change": {TRAIN: {"train#optimiser#lr": 1}}}, "no 'optimiser#lr'; there is optimizer"),
        ({"change": {TRAIN: {"train#handlers#99": {}}}}, "there is no 99"),
        ({"change": {TRAIN: {"image_size#0": 256}}}, "nothing in it"),
        ({"add": {TRAIN: {"image_size": {"epochs": 3}}}}, "epochs is there already; change it"),
        ({"add": {TRAIN: {"train#handlers#0": {"_target_": "a"}}}}, "expected a list"),
        ({"delete": {TRAIN: ["cropsize"]}}, "there is no 'cropsize'"),
        ({"change": {"configs/trian.json": {}}}, "configs/trian.json, which is no JSON file"),
        ({"chang": {}}, "expected template, change, add and delete"),
    ],
)  # fmt: skip
def test_a_mistake_in_an_overlay_is_an_error(
    generate: ModuleType, tmp_path: Path, overlay: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=r"overlay.json") as error:
        make(generate, tmp_path, **overlay)
    assert message in str(error.value)


def test_a_key_that_is_there_twice_is_an_error(generate: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "overlay.json").write_text('{"template": "volume", "add": {}, "add": {}}')
    with pytest.raises(ValueError, match=r"overlay.json: add is there twice"):
        generate.bundle_files(tmp_path)
