# SPDX-License-Identifier: Apache-2.0
"""What a comparison may say, and the presets."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from monai_sam2adapter.__main__ import _build_parser
from monai_sam2adapter.comparison import ComparisonConfig
from monai_sam2adapter.comparison.bundle_facts import check_keys
from monai_sam2adapter.comparison.grid import write_phantoms
from monai_sam2adapter.networks.adapters import adapter_names
from monai_sam2adapter.networks.weights import SAM2_CATALOG

ROOT = Path(__file__).parents[2]
BUNDLES = ROOT / "bundles"
CONTENT: dict[str, Any] = {
    "title": "Two methods",
    "seeds": [0, 1],
    "options": {"epochs": 2, "batch_size": 4},
    "datasets": {
        "hearts": {
            "bundle": "acdc_cardiac_segmentation",
            "phantom": {"kind": "acdc", "num_train": 1},
            "trunk": "membranes",
            "options": {"image_size": 32, "batch_size": 8},
        },
        "cells": {"bundle": "isbi2012_membrane_segmentation", "dataset_dir": "somewhere", "metric": "dice"},
    },
    "trunks": {"membranes": {"dataset": "cells", "options": {"adapter": "full"}}},
    "methods": {"HP-Adapter": {"adapter": "hp", "epochs": 3}, "head only": {"adapter": "none"}},
}
GSAM_ADAPTERS = ["none", "lora", "conv_lora", "adaptformer", "sm_adaptformer"]
PRESETS = ("cross", "gsam", "paper", "quick")


def train_json(dataset: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads((BUNDLES / dataset["bundle"] / "configs" / "train.json").read_text(encoding="utf-8"))


def changed(place: str, value: Any) -> dict[str, Any]:
    """The content with one value changed, or removed where it is ``...``."""
    content = copy.deepcopy(CONTENT)
    *parents, last = place.split("#")
    entry = content
    for parent in parents:
        entry = entry[parent]
    if value is ...:
        del entry[last]
    else:
        entry[last] = value
    return content


class TestComparisonConfig:
    def test_a_method_comes_after_the_data_set_and_the_command_line_after_all(self, tmp_path: Path) -> None:
        path = tmp_path / "own.json"
        path.write_text(json.dumps(CONTENT), encoding="utf-8")
        config = ComparisonConfig.load(path)
        expected = {"epochs": 3, "batch_size": 8, "image_size": 32, "adapter": "hp"}
        assert config.options_of("hearts", config.methods["HP-Adapter"]) == expected
        assert config.options_of("cells", {"adapter": "full"}) == {"epochs": 2, "batch_size": 4, "adapter": "full"}
        given = {"dataset_dirs": {"cells": "there"}, "overrides": {"batch_size": 1}, "seeds": [5]}
        config = ComparisonConfig.load(path, **given)
        assert config.options_of("hearts", config.methods["HP-Adapter"]) == {**expected, "batch_size": 1}
        assert config.datasets["cells"]["dataset_dir"] == "there"
        assert list(config.seeds) == [5]

    @pytest.mark.parametrize(("page", "file"), [("comparison", "own.json"), ("choose_adapter", "candidates.json")])
    def test_the_examples_of_the_documentation(self, page: str, file: str) -> None:
        text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
        example = re.search(rf"```json title={file}\n(.*?)```", text, re.DOTALL)
        assert example
        config = ComparisonConfig.from_dict(json.loads(example[1]))
        for dataset, entry in config.datasets.items():
            for method in config.methods.values():
                check_keys(config.options_of(dataset, method), train_json(entry))

    def test_what_is_neither_file_nor_preset_names_the_presets(self) -> None:
        with pytest.raises(FileNotFoundError, match=r"no file quik; .* presets cross, gsam, paper, quick"):
            ComparisonConfig.load("quik")

    def test_what_is_no_json_says_where(self, tmp_path: Path) -> None:
        path = tmp_path / "own.json"
        path.write_text('{"title": "half"', encoding="utf-8")
        with pytest.raises(ValueError, match=r"own\.json is .*no JSON: .* line 1"):
            ComparisonConfig.load(path)

    @pytest.mark.parametrize(
        ("place", "value", "message"),
        [
            ("title", " ", "title of the comparison must be a text, got ' '"),
            ("title", ..., "the comparison lacks title"),
            ("epoch", 3, "a key of the comparison is 'epoch', which is unknown"),
            ("seeds", 3, "seeds of the comparison must be a list, got 3"),
            ("seeds", [0, True], "seeds must be different whole numbers from 0, such as [0, 1, 2], got [0, True]"),
            ("seeds", [], "the comparison lacks seeds"),
            ("seeds", [1, 1], "seeds must be different whole numbers"),
            ("methods", {}, "the comparison lacks methods"),
            ("methods", ["hp"], "methods of the comparison must be a dictionary, got ['hp']"),
            ("methods", {"a/b": {}}, "'a/b' in methods names folders, too"),
            ("methods", {"..": {}}, "'..' in methods names folders, too"),
            ("methods", {"hp": {}, "HP": {}}, "must differ by more than case"),
            ("methods#head only", "none", "methods#head only must map keys of a bundle to values, got 'none'"),
            ("methods#head only", {"output_dir": "x"}, "methods#head only sets output_dir, which the command sets"),
            ("methods#head only", {"seed": 3}, "methods#head only sets seed, which the command sets by itself"),
            ("options#split_file", None, "options#split_file is null; leave it out"),
            ("options", [1], "options of the comparison must be a dictionary, got [1]"),
            ("datasets#cells#bundel", "x", "'bundel', which is unknown; did you mean bundle?"),
            ("datasets#cells#bundle", ..., "datasets#cells lacks bundle"),
            ("datasets#cells#metric", 1, "metric of datasets#cells must be a text, got 1"),
            ("datasets#hearts#dataset_dir", "x", "datasets#hearts has both dataset_dir and phantom"),
            ("datasets#hearts#trunk", "membrane", "'membrane', which is unknown; did you mean membranes?"),
            ("datasets#hearts#phantom", 3, "phantom of datasets#hearts must be a dictionary, got 3"),
            ("datasets#hearts#phantom#kind", ..., "datasets#hearts#phantom#kind is None, which is unknown; there are"),
            ("datasets#hearts#phantom#kind", "acd", "'acd', which is unknown; did you mean acdc?"),
            ("datasets#hearts#phantom#num_trian", 3, "did you mean num_train?"),
            ("trunks#membranes#dataset", ..., "trunks#membranes lacks dataset"),
            ("trunks#membranes#dataset", "cell", "did you mean cells?"),
            ("trunks#membranes#dataset", ["cells"], "dataset of trunks#membranes must be a text, got ['cells']"),
            ("datasets#hearts#trunk", ["membranes"], "trunk of datasets#hearts must be a text, got"),
        ],
        ids=str,
    )
    def test_ill_arg(self, place: str, value: Any, message: str) -> None:
        with pytest.raises(ValueError, match=re.escape(message)):
            ComparisonConfig.from_dict(changed(place, value))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"dataset_dirs": {"cell": "there"}}, "the data set is 'cell', which is unknown; did you mean cells"),
            ({"dataset_dirs": {"hearts": "there"}}, "hearts is made of phantoms"),
            ({"overrides": {"adapter": "lw"}}, "adapter is what makes the method 'HP-Adapter', so it cannot be set"),
            ({"overrides": {"seed": 1}}, "overrides sets seed, which the command sets by itself"),
        ],
    )
    def test_ill_argument_of_the_command_line(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            ComparisonConfig.from_dict(CONTENT, **arguments)

    def test_phantoms_of_a_wrong_type_are_named(self, tmp_path: Path) -> None:
        content = changed("datasets#hearts#phantom#num_train", "20")
        content["datasets"]["cells"]["dataset_dir"] = str(tmp_path)
        with pytest.raises(ValueError, match=r"phantoms of hearts: \{'num_train': '20'\} has a value of a wrong type"):
            write_phantoms(ComparisonConfig.from_dict(content), tmp_path / "out")


class TestPresets:
    def test_names_are_those_in_the_help(self) -> None:
        assert tuple(ComparisonConfig.presets()) == PRESETS
        compare = _build_parser()._subparsers._group_actions[0].choices["compare"].format_help()  # type: ignore[union-attr]
        assert all(name in compare for name in PRESETS)

    @pytest.mark.parametrize("name", PRESETS)
    def test_keys_are_those_of_the_bundles_and_adapters_exist(self, name: str) -> None:
        config = ComparisonConfig.load(name)
        for dataset, entry in config.datasets.items():
            for method in config.methods.values():
                options = config.options_of(dataset, method)
                check_keys(options, train_json(entry))
                assert options["adapter"] in [*adapter_names(), "none"]
                if "trunk" in entry:  # of the other data set
                    assert config.trunks[entry["trunk"]]["dataset"] != dataset
                else:
                    assert options["sam2_checkpoint"] in SAM2_CATALOG

    @pytest.mark.parametrize(
        ("name", "datasets", "adapters"),
        [
            ("paper", ["ISBI 2012", "Kvasir-SEG", "Synapse", "ACDC"], ["none", "lora", "adaptformer", "hp", "lw"]),
            (
                "gsam",
                ["ISBI 2012", "Kvasir-SEG", "Synapse"],
                ["none", "lora", "conv_lora", "adaptformer", "sm_adaptformer"],
            ),
        ],
    )
    def test_the_papers_data_sets_methods_and_budget(self, name: str, datasets: list[str], adapters: list[str]) -> None:
        config = ComparisonConfig.load(name)
        assert list(config.datasets) == datasets
        assert [method["adapter"] for method in config.methods.values()] == adapters
        assert config.methods["SAM 2"]["positional_encoding"] == "sam2"
        for dataset in config.datasets:
            options = config.options_of(dataset, {})
            assert (options["epochs"], options["batch_size"], options["learning_rate"]) == (200, 8, 1e-4)
