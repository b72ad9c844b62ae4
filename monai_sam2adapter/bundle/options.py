# SPDX-License-Identifier: Apache-2.0
"""What the options of all bundles may be: one table, by their names."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..data.datasets.layouts import LABEL_TYPES
from ..data.orientation import SLICES_BY
from ..data.pixel_values import is_normalization
from ..metrics import METRIC_PROTOCOLS
from ..networks.adapters import adapter_names
from ..networks.nets.adapter_options import WITHOUT_ADAPTER
from ..networks.nets.dinov2 import DINOV2_VARIANTS
from ..networks.nets.encoders import ENCODER_VARIANTS
from ..networks.nets.hiera import POSITIONAL_ENCODINGS
from ..networks.nets.mask_decoder import OUTPUT_STRIDES
from ..networks.nets.vit import VIT_POSITIONAL_ENCODINGS
from ..networks.utils import FROZEN_DTYPES
from ..utils import nearest_name, printable

__all__ = ["NOT_COMPUTED", "OPTIONS", "Rule"]


@dataclass(frozen=True)
class Rule:
    """
    Args:
        expected: what the value has to be, for the message.
        is_right: whether a value is.
        choices: the names that it may be, to find the nearest. Defaults to none: it is no name.
        written: the values on a command line. Defaults to "VALUE".
    """

    expected: str
    is_right: Callable[[Any], bool]
    choices: Collection[str] = ()
    written: Collection[str] = ("VALUE",)

    def problem(self, name: str, value: Any) -> str:
        """What is wrong with the value of an option; empty when all is well."""
        if self.is_right(value):
            return ""
        written = " or ".join(f"--{name} {text}" for text in self.written)
        nearest = f"; {nearest_name(value, self.choices)}" if self.choices and isinstance(value, str) else ""
        return f"{name} must be {self.expected}, got {printable(repr(value))}{nearest.rstrip('.')}; write {written}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(value: Any, low: int, high: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_list_of(value: Any, is_item: Callable[[Any], bool]) -> bool:
    return isinstance(value, (list, tuple)) and all(map(is_item, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_path(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike)) and bool(str(value).strip()) and "\0" not in str(value)


def _is_place(value: Any) -> bool:
    # MONAI makes "::" of each "#" in a value of a config: results would lie in another folder
    return _is_path(value) and ("::" not in str(value) or os.path.lexists(str(value)))


def _is_device(value: Any) -> bool:
    try:
        device = torch.device(value)
    except (RuntimeError, TypeError, ValueError):
        return False
    if isinstance(value, (int, bool)):
        return False
    if device.type == "cuda":
        return (device.index or 0) < torch.cuda.device_count()
    return device.type != "mps" or torch.backends.mps.is_available()


def _are_flips(value: Any) -> bool:
    return _is_list_of(value, lambda flip: _are_names(flip, lambda axis: _is_integer(axis, 0, 2))) and (
        len({tuple(sorted(flip)) for flip in value}) == len(value)
    )


def _are_names(value: Any, is_name: Callable[[Any], bool]) -> bool:
    return _is_list_of(value, is_name) and 0 < len(value) == len(set(value))


def _integer(low: int, high: int | None = None) -> Rule:
    limit = f"of at least {low}" if high is None else f"from {low} to {high}"
    return Rule(f"an integer {limit}", lambda value: _is_integer(value, low, math.inf if high is None else high))


def _or_none(rule: Rule) -> Rule:
    return Rule(f"{rule.expected}, or None", lambda value: value is None or rule.is_right(value), rule.choices)


def _one_of(names: Collection[str]) -> Rule:
    return Rule(f"one of {', '.join(names)}", lambda value: isinstance(value, str) and value in names, names)


def _is_adapter(value: Any) -> bool:
    # looked up now: a config may import a module that registers its own
    return isinstance(value, str) and value in adapter_names()


_ADAPTERS = (*WITHOUT_ADAPTER, *adapter_names())
_FLAG = Rule("True or False", lambda value: isinstance(value, bool), written=("True", "False"))
_SHARE = Rule("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1)
_PATH = Rule('a path (without "#", of which MONAI makes "::")', _is_place)
_KEYS_AND_VALUES = Rule("a dictionary", lambda value: isinstance(value, Mapping))
_SIZE = Rule(
    "an integer of at least 32, or a list of two (height and width in pixels)",
    lambda value: (
        _is_integer(value, 32) or (_is_list_of(value, lambda side: _is_integer(side, 32)) and len(value) == 2)
    ),
)
# of components, which are built from a dictionary
_COMPONENT = Rule(
    'a component (a dictionary with "_target_") or an expression ("$...", "@...")',
    lambda value: isinstance(value, Mapping) or not isinstance(value, (str, int, float, list, tuple, type(None))),
)
_STEPS = Rule('a list, or an expression ("$...")', lambda value: isinstance(value, (list, tuple)))
_SECTION = Rule("a dictionary", lambda value: isinstance(value, Mapping))

#: by the names of the options, what they may be; messages write them as on a command line
OPTIONS: Mapping[str, Rule] = {
    **dict.fromkeys(("epochs", "batch_size", "val_interval", "num_classes", "num_channels", "crop_size"), _integer(1)),
    "accumulation_steps": _integer(1),
    "patience": _or_none(_integer(1)),
    "warmup_epochs": _integer(0),
    "weight_decay": Rule("a number of at least 0", lambda value: _is_number(value) and value >= 0),
    **dict.fromkeys(("num_workers", "num_neighbors", "fold"), _integer(0)),
    "seed": _integer(0, 2**32 - 1),
    "slice_axis": _integer(-3, 2),
    "max_pixels": _or_none(_integer(1)),
    "max_bits": _or_none(_integer(1)),
    "ignore_label": _or_none(_integer(0, 65535)),
    "image_size": _SIZE,
    "spatial_size": _SIZE,
    "tile": _or_none(_SIZE),
    "overlap": Rule("a number from 0 to below 1", lambda value: _is_number(value) and 0 <= value < 1),
    "dino_size": Rule("a positive multiple of 14", lambda value: _is_integer(value, 14) and value % 14 == 0),
    "learning_rate": Rule("a number above 0", lambda value: _is_number(value) and value > 0),
    **dict.fromkeys(("cache_rate", "flip_prob"), _SHARE),
    **dict.fromkeys(
        (
            *("amp", "resume", "overwrite", "foreground_only", "largest_component", "save_probabilities"),
            *("save_uncertainty", "skip_existing", "rescale_predictions", "activation_checkpointing", "compile"),
            *("device_transforms", "shard_cache", "exclusive", "overlapping"),
        ),
        _FLAG,
    ),
    # without a default in some bundles, which are built without data, too: whoever reads the data misses it
    "dataset_dir": Rule(
        "a path, or for inference a list of paths",
        lambda value: value is None or _is_path(value) or (isinstance(value, (list, tuple)) and bool(value)),
    ),
    **dict.fromkeys(("bundle_root", "output_dir"), _PATH),
    "checkpoint_file": Rule(
        f"{_PATH.expected}, or for an ensemble a list of different ones",
        lambda value: _is_place(value) or _are_names(value, _is_place),
    ),
    **dict.fromkeys(("sam2_checkpoint", "dinov2_checkpoint", "init_checkpoint", "split_file"), _or_none(_PATH)),
    "datalist_key": _or_none(Rule("a text", _is_text)),
    "label_pattern": Rule(
        'a text with "*" in the place of the image\'s name', lambda value: _is_text(value) and "*" in value
    ),
    "label_type": _one_of(LABEL_TYPES),
    "orientation": Rule(
        "three letters, one of L and R, one of A and P, and one of S and I, such as LPS",
        lambda value: isinstance(value, str) and sorted("LRPAIS".find(code) // 2 for code in value) == [0, 1, 2],
    ),
    "slices_by": _one_of(SLICES_BY),
    "task": Rule("a text", _is_text),
    "encoder": _one_of(tuple(ENCODER_VARIANTS)),
    # which of them an encoder has is checked with it
    "variant": _one_of(tuple(dict.fromkeys(name for names in ENCODER_VARIANTS.values() for name in names))),
    "dino_variant": _one_of(DINOV2_VARIANTS),
    "adapter": Rule(
        f"one of {', '.join(_ADAPTERS)}, a name that was registered, or a list of different names",
        lambda value: value in WITHOUT_ADAPTER or _is_adapter(value) or _are_names(value, _is_adapter),
        _ADAPTERS,
    ),
    "positional_encoding": _one_of(tuple(dict.fromkeys((*POSITIONAL_ENCODINGS, *VIT_POSITIONAL_ENCODINGS)))),
    "output_stride": Rule(
        "4, 2 or 1", lambda value: _is_integer(value, 1) and value in OUTPUT_STRIDES, written=("4", "2", "1")
    ),
    "frozen_dtype": _one_of(FROZEN_DTYPES),
    "output_format": _one_of(("nii.gz", "dicom_seg", "png")),
    # some data sets have test sets of their own names
    "split": Rule("a text: train, val, test, or the name of a test set", _is_text),
    "backend": Rule("a text, such as nccl or gloo", _is_text),
    "modality": _or_none(
        Rule("a text, or a list of texts", lambda value: _is_text(value) or (value and _is_list_of(value, _is_text)))
    ),
    "metrics": Rule(
        f"a list of different names of {', '.join(METRIC_PROTOCOLS)}",
        lambda value: _are_names(value, lambda name: isinstance(name, str) and name in METRIC_PROTOCOLS),
    ),
    "class_names": Rule("a list of different texts", lambda value: _are_names(value, _is_text)),
    "tta_flips": Rule("a list of different lists of different spatial axes, 0 to 2", _are_flips),
    "normalization": Rule(
        "for each channel a dictionary of lower and upper, or of mean and std, or of all or none",
        lambda value: bool(value) and _is_list_of(value, is_normalization),
    ),
    "folders": _or_none(_KEYS_AND_VALUES),
    "adapter_config": Rule(
        "a dictionary, or for several adapters a list of such",
        lambda value: isinstance(value, Mapping) or _is_list_of(value, lambda one: isinstance(one, Mapping)),
    ),
    **dict.fromkeys(
        ("trt_args", "description", "default_description", "label_map", "compile_kwargs"), _KEYS_AND_VALUES
    ),
    "amp_dtype": Rule(
        "torch.float16 or torch.bfloat16, as $torch.bfloat16",
        lambda value: value in (torch.float16, torch.bfloat16),
    ),
    "device": Rule("a device that this machine has, such as cpu or cuda:0", _is_device),
    **dict.fromkeys(
        (
            *("network_def", "network", "summary_writer", "label_scheme", "saver", "preprocessing"),
            *("postprocessing", "dataset", "dataloader", "inferer", "evaluator", "load_volume", "load_image"),
        ),
        _COMPONENT,
    ),
    "cases": Rule("a list of dictionaries", lambda value: isinstance(value, (list, tuple))),
    "handlers": _STEPS,
    **dict.fromkeys(("imports", "initialize", "training", "evaluating", "inference", "run", "finalize"), _STEPS),
    **dict.fromkeys(("train", "validate"), _SECTION),
}
#: of these, expressions are not for a check to compute: they do work, or depend on what is done before
NOT_COMPUTED = {name for name, rule in OPTIONS.items() if rule in (_COMPONENT, _STEPS, _SECTION)} | {"device", "cases"}
