# SPDX-License-Identifier: Apache-2.0
"""Every option of every bundle is known and right before anything is done."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_runs import ACDC, BUNDLES, config_of, fails_with, read
from monai.bundle import ConfigParser, ConfigWorkflow

from monai_sam2adapter.bundle import OPTIONS

RUNS = {
    "training": ("train",),
    "training by several": ("train", "multi_gpu_train"),
    "evaluating": ("train", "evaluate"),
    "evaluating by several": ("train", "evaluate", "multi_gpu_evaluate"),
    "inference": ("inference",),
    "inference by TensorRT": ("inference", "inference_trt"),
}
VALUES: dict[str, Any] = {
    **{"text": "nonsense", "empty": "", "negative": -7, "zero": 0, "fraction": 0.5, "true": True, "none": None},
    **{"nan": math.nan, "infinite": math.inf, "list": [[]], "dictionary": {"a": 1}, "NUL": "a\0b"},
}
# of these values, the right ones; of all other options, each is wrong
_PATH, _SWITCH, _DICTIONARY, _LIST, _FROM_0 = {"text"}, {"true"}, {"dictionary"}, {"list"}, {"zero"}
RIGHT: dict[str, set[str]] = {
    **dict.fromkeys(("num_workers", "num_neighbors", "fold", "seed", "slice_axis"), _FROM_0),
    **{key: {"zero", "fraction"} for key in ("cache_rate", "flip_prob")},
    **dict.fromkeys(("amp", "resume", "overwrite", "foreground_only", "largest_component", "skip_existing"), _SWITCH),
    **dict.fromkeys(("save_probabilities", "save_uncertainty", "rescale_predictions", "compile"), _SWITCH),
    **dict.fromkeys(
        ("activation_checkpointing", "device_transforms", "shard_cache", "exclusive", "overlapping"), _SWITCH
    ),
    "compile_kwargs": _DICTIONARY,
    **dict.fromkeys(("bundle_root", "output_dir", "checkpoint_file"), _PATH),
    **{key: {"text", "none"} for key in ("sam2_checkpoint", "dinov2_checkpoint", "init_checkpoint", "split_file")},
    **dict.fromkeys(("adapter_config", "trt_args", "description", "default_description", "label_map"), _DICTIONARY),
    **dict.fromkeys(
        ("network_def", "network", "summary_writer", "label_scheme", "saver", "preprocessing"), _DICTIONARY
    ),
    **dict.fromkeys(("postprocessing", "dataset", "dataloader", "inferer", "evaluator", "train"), _DICTIONARY),
    **dict.fromkeys(("load_volume", "load_image", "validate"), _DICTIONARY),
    **dict.fromkeys(("handlers", "cases", "imports", "initialize", "training", "evaluating"), _LIST),
    **dict.fromkeys(("inference", "run", "finalize"), _LIST),
    "dataset_dir": {"text", "none", "list"},  # whoever reads the data misses it
    "learning_rate": {"fraction"},
    "weight_decay": {"zero", "fraction"},
    "warmup_epochs": {"zero"},
    "tile": {"none"},
    "overlap": {"zero", "fraction"},
    "patience": {"none"},
    "ignore_label": {"zero", "none"},
    **{key: {"none"} for key in ("max_bits", "max_pixels")},
    "folders": {"dictionary", "none"},
    **{key: {"text", "NUL", "none"} for key in ("datalist_key", "modality")},
    **{key: {"text", "NUL"} for key in ("task", "backend", "split")},
}


def initialize(bundle: Path, *names: str, **options: Any) -> None:
    """What `run` does before its first step."""
    workflow = ConfigWorkflow(
        workflow_type="train",
        config_file=config_of(bundle, *names),
        logging_file=False,
        bundle_root=str(bundle),
        **options,
    )
    workflow.initialize()


@pytest.mark.parametrize("names", RUNS.values(), ids=RUNS)
def test_the_bundles_own_configs_are_right_and_every_key_has_a_rule(bundle: Path, names: tuple[str, ...]) -> None:
    parser = ConfigParser()
    parser.read_config(config_of(bundle, *names))
    parser["bundle_root"] = str(bundle)
    parser.parse()
    parser.get_parsed_content("initialize::0")
    assert set(parser.config) - set(OPTIONS) == {"_meta_"}


@pytest.mark.parametrize("key", OPTIONS)
def test_every_wrong_value_of_every_option_is_named(key: str) -> None:
    for name, value in VALUES.items():
        problem = OPTIONS[key].problem(key, value)
        assert (problem == "") == (name in RIGHT.get(key, set())), (name, problem)
        assert not problem or problem.startswith(f"{key} must be ")
        assert not problem or (f"got {value!r}" in problem and f"write --{key} " in problem)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("epochs", [1, 200]),
        ("accumulation_steps", [1, 8]),
        ("patience", [None, 1, 20]),
        ("warmup_epochs", [0, 10]),
        ("weight_decay", [0, 0.01, 1]),
        ("image_size", [32, 1024, [64, 96]]),
        ("tile", [None, 32, 512, [64, 96]]),
        ("dino_size", [14, 448]),
        ("encoder", ["sam2", "dinov3", "sam3"]),
        ("variant", ["tiny", "small", "base_plus", "base", "large"]),
        ("positional_encoding", ["peg", "sam2", "rope"]),
        ("orientation", ["LPS", "RAS", "SAL"]),
        ("slices_by", ["orientation", "both", "spacing"]),
        ("label_type", ["exclusive", "overlapping"]),
        ("label_pattern", ["*", "mask_*", "*_segmentation"]),
        ("seed", [0, 2**32 - 1]),
        ("adapter", ["none", "full", "hp", "lora", ["hp", "lora"]]),
        ("adapter_config", [{"rank": 2}, [{}, {"rank": 2}]]),
        ("metrics", [["dice"], ["mae", "hd95_mm"]]),
        ("tta_flips", [[], [[0]], [[0], [1], [0, 1]]]),
        ("class_names", [["object"], ["background", "a"]]),
        ("device", ["cpu", "meta"]),
        ("ignore_label", [None, 0, 255, 65535]),
        ("modality", ["CT", ["T1", "T2"]]),
        ("normalization", [[{"mean": 1.0, "std": 2.0}], [{}], [{"lower": 0, "upper": 1}, {}]]),
        ("dataset_dir", ["x", ["a", "b"], "['a','b']"]),
        ("sam2_checkpoint", ["random", "x.pt", None]),
        ("checkpoint_file", ["x.pt", ["x.pt"], ["x.pt", "y.pt"]]),
    ],
)
def test_right_values_pass(key: str, values: list[Any]) -> None:
    assert [OPTIONS[key].problem(key, value) for value in values] == [""] * len(values)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("image_size", [31, [64], [64, 64, 64], [64, 16], 64.0]),
        ("tile", [31, 0, [64], [64, 16], 64.0]),
        ("overlap", [1, 1.0, -0.25]),
        ("dino_size", [15]),
        ("orientation", ["LPP", "LP", "LPSS", "lps", " PS", "LRS", ""]),
        ("label_pattern", ["mask"]),
        ("slices_by", ["axis"]),
        ("seed", [2**32]),
        ("metrics", [[], ["dice", "dice"], ["dicee"], "dice"]),
        ("tta_flips", [[0, 1], [[3]], [[-1]], "x", [[0], [0]], [[0, 0]], [[0, 1], [1, 0]], [[True]]]),
        ("normalization", [[{"lower": 1}], [{"mean": 0.0}], [{"mean": 0.0, "std": 0}], [{"lower": 1, "upper": 1}]]),
        ("normalization", [[{"mean": 0.0, "std": math.nan}], [{"mean": "0", "std": 1}], [{"men": 0, "std": 1}], {}]),
        ("device", ["cuda:99", "mps" if not torch.backends.mps.is_available() else "x", 0]),
        ("class_names", [[], ["a", "a"], ["a", ""], [1, 2]]),
        ("slice_axis", [3, -4]),
        ("cache_rate", [1.1, -0.1]),
        ("ignore_label", [65536]),
        ("output_dir", ["results ::2", ""]),  # MONAI has made "::" of "#"
        ("checkpoint_file", ["a::b.pt", [], ["a.pt", "a.pt"], ["a.pt", "a::b.pt"], [["a.pt"]]]),
    ],
)
def test_wrong_values_of_the_right_type_do_not(key: str, values: list[Any]) -> None:
    assert all(OPTIONS[key].problem(key, value) for value in values)


@pytest.mark.parametrize("run", ["evaluating", "inference"])
def test_a_run_names_each_wrong_option_before_it_reads_or_writes(bundle: Path, run: str, tmp_path: Path) -> None:
    paths = {"dataset_dir": str(tmp_path / "data"), "output_dir": str(tmp_path / "out")}
    names = RUNS[run]
    keys = {key for name in names for key in read(bundle, name) if key in OPTIONS}
    wrong = dict.fromkeys(keys - {"imports", "initialize", "bundle_root", "train", "validate"}, -7)
    with pytest.raises(RuntimeError) as caught:
        initialize(bundle, *names, **{**paths, **wrong})
    error: BaseException = caught.value
    while error.__cause__ is not None:
        error = error.__cause__
    assert [key for key in wrong if f"\n{key} must be " not in str(error)] == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("run", "options", "message"),
    [
        ("training", {"adaptor": "hp"}, "unknown option adaptor: did you mean adapter?"),
        ("training", {"Epochs": 3}, "unknown option Epochs: did you mean epochs?"),
        ("training", {"split": "val"}, "unknown option split: did you mean split_file?"),
        ("training", {"trian": {"a": 1}}, "unknown option trian"),
        ("training", {"train#sampeler": "x"}, "unknown option train#sampeler: did you mean sampler?"),
        ("training", {"network_def#adaptor": "hp"}, "unknown option network_def#adaptor: did you mean adapter?"),
        (
            "training",
            {"train#trainer#max_epoch": 3},
            "unknown option train#trainer#max_epoch: did you mean max_epochs?",
        ),
        ("training", {"train#dataset#data#fould": 3}, "unknown option train#dataset#data#fould: did you mean fold?"),
        ("evaluating", {"metric": ["dice"]}, "unknown option metric: did you mean metrics?"),
        ("inference", {"save_probabilites": True}, "option save_probabilites: did you mean save_probabilities?"),
        ("inference", {"evaluator#amp_kwarg": {}}, "unknown option evaluator#amp_kwarg: did you mean amp_kwargs?"),
        ("inference", {"epochs": 3}, "unknown option epochs"),
        ("inference", {"tta": [[0]], "adapter": "hpp"}, "2 options are wrong:"),
        # the value that train.json has by itself
        ("inference", {"epochs": read(ACDC, "train")["epochs"]}, "unknown option epochs"),
        ("training", {"train#trainer#max_epochs": 0}, "train#trainer#max_epochs must be an integer of at least 1"),
        ("training", {"train#optimizer#lr": -1}, "train#optimizer#lr must be a number above 0, got -1"),
        ("training", {"train#trainer#amp": "yes"}, "train#trainer#amp must be True or False"),
        ("inference", {"network_def#adapter": "hpp"}, "network_def#adapter must be one of"),
        ("training", {"encoder": "dino"}, "encoder must be one of sam2, dinov3, sam3, got 'dino'; did you mean dinov3"),
        ("training", {"encoder": "dinov3", "variant": "tiny"}, "must be one of small, base, large, got 'tiny'"),
        ("inference", {"encoder": "sam3", "output_stride": 2}, "output_stride of encoder sam3 must be one of 4, got 2"),
        ("inference", {"positional_encoding": "rope"}, "positional_encoding of encoder sam2 must be one of peg, sam2"),
        ("training", {"adapter_config": {"rank": 2}}, "unknown adapter setting rank; the settings of this method are"),
        ("training", {"adapter_config": {"bottleneck_ratio": 2}}, "bottleneck_ratio must be in (0, 1], got 2"),
        ("training", {"adapter_config": {"scale": math.nan}}, "scale must be finite, got nan"),
        ("training", {"adapter": ["hp", "lora"], "adapter_config": [{}]}, "a list of settings, one for each of"),
        ("training", {"adapter": "$'none'", "adapter_config": {"scale": 1}}, "'none' has no settings"),
        ("inference", {"num_classes": "$0 * 3"}, "num_classes must be an integer of at least 1, got 0"),
        ("inference", {"class_names": "$['a'] * 3"}, "class_names must be a list of different texts"),
        ("inference", {"output_dir": "$3 + 4"}, "output_dir must be a path (without"),
        ("training", {"warmup_epochs": 5, "epochs": 5}, "warmup_epochs is 5 of 5 epochs"),
    ],
)
def test_unknown_options_are_refused_with_the_nearest(run: str, options: dict[str, Any], message: str) -> None:
    with fails_with(message):
        initialize(ACDC, *RUNS[run], **options)


@pytest.mark.parametrize(
    ("run", "options"),
    [
        ("training", {"network_def#freeze": True}),
        ("training", {"train#trainer#epoch_length": 2}),
        ("training", {"train#dataloader#drop_last": True}),
        ("training", {"_comment": "mine", "my_lr": 0.1, "learning_rate": "@my_lr"}),
        ("training", {"my_optimizer": {"_target_": "torch.optim.SGD", "lr": 1}, "train#optimizer": "%my_optimizer"}),
        ("training", {"train#trainer#max_epochs": 3, "train#optimizer#lr": 1, "train#trainer#amp": "@amp"}),
        ("training", {"adapter": "lora", "adapter_config": {"rank": 2}}),
        (
            "training",
            {"validate#postprocessing": {"_target_": "monai.transforms.AsDiscreted", "dtype": "$torch.uint8"}},
        ),
        ("training", {"my_steps": ["$print(@epochs)"]}),
        ("training", {"encoder": "dinov3", "positional_encoding": "rope"}),
        ("inference", {"encoder": "dinov3", "variant": "base", "output_stride": 2}),
        ("training", {"train#sampler": None, "train#dataloader#sampler": None}),
        ("training", {"train#lr_scheduler": {"_target_": "torch.optim.lr_scheduler.StepLR"}, "train#handlers": []}),
        ("training", {"amp": "$False", "amp_dtype": "$torch.float16", "device": "$torch.device('cpu')"}),
        ("inference", {"adapter_config": {"scale": 3}, "experiment_name": "x"}),
    ],
)
def test_what_is_referred_to_or_an_argument_is_taken(run: str, options: dict[str, Any]) -> None:
    initialize(ACDC, *RUNS[run], **options)


def test_sizes_without_effect_are_said(caplog: pytest.LogCaptureFixture) -> None:
    for options in ({"image_size": 64}, {"tile": 64, "overlap": 0.5}, {"tile": [64, 96], "image_size": 224}):
        initialize(ACDC, "inference", **options)
    assert not [message for message in caplog.messages if "no effect" in message]
    initialize(ACDC, "inference", tile=64, image_size=96)
    initialize(ACDC, "train", "evaluate", overlap=0.5)
    assert [message for message in caplog.messages if "no effect" in message] == [
        "image_size 96 has no effect: with tile 64 images are not resized",
        "overlap 0.5 has no effect: there is no tile",
    ]


def test_windows_that_are_turned_are_square() -> None:
    bundle = ACDC.with_name("isbi2012_membrane_segmentation")
    with fails_with("turns windows by 90 degrees: give a square, tile=96"):
        initialize(bundle, "train", tile=[64, 96])
    initialize(bundle, "train", tile=[64, 64])
    initialize(bundle, "train", "evaluate", tile=[64, 96])
    initialize(ACDC, "train", tile=[64, 96])


def test_a_second_file_is_looked_at_too(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    workflow = {"workflow_type": "train", "logging_file": False, "bundle_root": str(ACDC)}
    files = [*config_of(ACDC, "train"), str(file)]
    file.write_text(json.dumps({"my_rate": 0.1, "learning_rate": "@my_rate", "adapter": "none"}), encoding="utf-8")
    ConfigWorkflow(config_file=files, **workflow).initialize()
    file.write_text(json.dumps({"learning_rates": 0.1}), encoding="utf-8")
    with fails_with("unknown option learning_rates: did you mean learning_rate?"):
        ConfigWorkflow(config_file=files, **workflow).initialize()


def test_wrong_options_delete_nothing(tmp_path: Path) -> None:
    for name in ("model.pt", "last.pt"):
        (tmp_path / name).write_text("precious")
    for wrong in ({"epochs": 0}, {"image_size": 10}, {"fold": -1}, {"amp": "maybe"}, {"overwrit": True}):
        with fails_with(next(iter(wrong))):
            initialize(
                BUNDLES / "acdc_cardiac_segmentation", "train", output_dir=str(tmp_path), overwrite=True, **wrong
            )
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("model.pt", "last.pt"), "precious"
    )
