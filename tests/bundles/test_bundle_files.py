# SPDX-License-Identifier: Apache-2.0
"""The files of every bundle: which there are, and that their configs are plain and fit each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from bundle_runs import read

FILES = {
    *(f"configs/{name}.json" for name in ("train", "evaluate", "inference", "inference_trt", "federated", "metadata")),
    *("configs/multi_gpu_train.json", "configs/multi_gpu_evaluate.json", "configs/logging.conf"),
    *("docs/README.md", "docs/data_license.txt", "LICENSE", "large_files.yml", "overlay.json"),
}
WRITTEN_BY_RUNS = ("models", "eval", "prediction", "data")
# DESIGN: a command line learnt on one bundle works on all
TRAINING_KEYS = {
    *("dataset_dir", "output_dir", "sam2_checkpoint", "variant", "adapter", "positional_encoding", "image_size"),
    *("epochs", "batch_size", "learning_rate", "amp", "device", "num_workers", "resume", "overwrite", "seed"),
    *("cache_rate", "device_transforms", "fold", "split_file", "val_interval", "adapter_config"),
    *("compile", "accumulation_steps", "output_stride", "activation_checkpointing", "frozen_dtype"),
    *("patience", "warmup_epochs", "weight_decay", "encoder", "tile", "overlap"),
}
INFERENCE_KEYS = {
    *("dataset_dir", "output_dir", "checkpoint_file", "variant", "adapter", "positional_encoding", "image_size"),
    *("batch_size", "amp", "device", "num_workers", "datalist_key", "output_format", "tta_flips", "largest_component"),
    *(
        "save_probabilities",
        "save_uncertainty",
        "skip_existing",
        "adapter_config",
        "compile",
        "frozen_dtype",
        "output_stride",
        "encoder",
        "tile",
        "overlap",
    ),
}
# what a network has not
WITHOUT = {"sam2_unext_segmentation": {"positional_encoding", "output_stride", "encoder"}}
HEADINGS = (
    *("# Model Overview", "## Data", "## Training configuration", "## Performance", "## MONAI Bundle Commands"),
    *("# References", "# License"),
)
# what changes no value of an image: checks that need a label or a whole scan, the data type in the cache, and the step
# for the axis of the channels, which MONAI Deploy needs beside LoadImaged
NO_CHANGE = {"RequireSameGeometryd", "RequireHounsfieldd", "CastToTyped", "EnsureChannelFirstd"}


def image_steps(config: dict[str, Any], reference: str) -> list[dict[str, Any]]:
    """The transforms of the image, references followed; how files are read left out: inference takes more formats."""
    found: Any = config
    for part in reference.removeprefix("@").split("#"):
        found = found[part]
    if isinstance(found, str):
        return image_steps(config, found)
    steps = []
    for step in found["transforms"]:
        if isinstance(step, str):
            steps += image_steps(config, step)
        elif step["keys"] != "label" and step["_target_"].split(".")[-1] not in NO_CHANGE:
            steps.append({**step, "keys": "image", "reader": None, "expanduser": None, "ensure_channel_first": None})
    return steps


def expressions(value: Any) -> list[str]:
    if isinstance(value, (dict, list)):
        return [found for item in (value.values() if isinstance(value, dict) else value) for found in expressions(item)]
    return [value] if isinstance(value, str) and value.startswith("$") else []


def test_all_are_there_and_no_python(bundle: Path) -> None:
    found = {path.relative_to(bundle) for path in bundle.rglob("*") if path.is_file()}
    names = {path.as_posix() for path in found if path.parts[0] not in WRITTEN_BY_RUNS}
    assert names >= FILES
    assert not [name for name in names - FILES if name.endswith(".py") or not name.startswith("docs/")]


def test_the_readme_has_the_headings_of_the_model_zoo_and_names_all_keys(bundle: Path) -> None:
    readme = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    assert [line for line in readme.splitlines() if line in HEADINGS] == list(HEADINGS)
    section = re.split(r"^#.*$", readme.partition("#### Keys")[2].partition("\n")[2], flags=re.MULTILINE)[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    named = {key for row in rows for key in re.findall(r"`([^`]+)`", row)}
    train, evaluate, inference = (read(bundle, name) for name in ("train", "evaluate", "inference"))
    assert named <= {*train, *evaluate, *inference}
    without = WITHOUT.get(bundle.name, set())
    for keys, config in ((TRAINING_KEYS, train), (INFERENCE_KEYS, inference)):
        assert keys - without <= named & config.keys()


@pytest.mark.parametrize(("name", "most"), [("train", 25), ("inference", 15)])
def test_few_expressions(name: str, most: int, bundle: Path) -> None:
    """MONAI's model zoo: 21 and 12 in ``spleen_ct_segmentation``."""
    found = expressions(read(bundle, name))
    assert len(found) <= most, found


@pytest.mark.parametrize("name", ["train", "inference"])
def test_the_first_step_checks_all_options(name: str, bundle: Path) -> None:
    assert read(bundle, name)["initialize"][0] == {"_target_": "monai_sam2adapter.bundle.check_options"}


def test_validation_and_inference_prepare_images_alike(bundle: Path) -> None:
    train, inference = read(bundle, "train"), read(bundle, "inference")
    steps = [image_steps(train, "@validate#preprocessing"), image_steps(inference, "@preprocessing")]
    assert steps[0] == steps[1]
    assert len(steps[0]) > 2
    turned = "OrientSlicesd" in str(steps[1])  # and turned back
    assert turned == ("Invertd" in str(inference["postprocessing"]))


def test_evaluation_and_inference_keep_the_largest_component_alike(bundle: Path) -> None:
    evaluate, inference = read(bundle, "evaluate"), read(bundle, "inference")
    lists = (evaluate["validate#postprocessing#transforms"], inference["postprocessing"]["transforms"])
    steps = [[step for step in steps if step.get("_disabled_") == "$not @largest_component"] for steps in lists]
    assert steps[0] == steps[1]
    assert len(steps[0]) == 1
    assert evaluate["largest_component"] is inference["largest_component"] is False


def test_training_and_inference_describe_one_network(bundle: Path) -> None:
    train, inference = read(bundle, "train"), read(bundle, "inference")
    # saves memory in the backward pass, which inference has not
    assert train["network_def"].pop("activation_checkpointing") == "@activation_checkpointing"
    options = {value.removeprefix("@") for value in map(str, train["network_def"].values()) if value[0] == "@"}
    assert options >= {"variant", "adapter", "adapter_config"}
    for key in ("image_size", "tile", "overlap", "class_names", "network_def", *options):
        assert train[key] == inference[key], key


def test_only_the_first_process_writes_for_tensorboard(bundle: Path) -> None:
    """multi_gpu_train.json switches handlers off by their number, which must be that of those with the writer."""
    off = {key.removesuffix("#_disabled_") for key in read(bundle, "multi_gpu_train") if key.endswith("#_disabled_")}
    train = read(bundle, "train")
    with_writer = {
        f"{part}#handlers#{number}"
        for part in ("train", "validate")
        for number, handler in enumerate(train[part]["handlers"])
        if handler.get("summary_writer") == "@summary_writer"
    }
    assert off == {"summary_writer", *with_writer}
    assert with_writer
