# SPDX-License-Identifier: Apache-2.0
"""Options of a generated bundle: under which names they come, and where they are kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from ..utils import escaping_logger
from ..utils.files import read_json, write_json

__all__ = ["change_defaults", "in_our_names", "parse_config"]

logger = escaping_logger(__name__)

_NAMES = {
    "num_epochs": "epochs",
    "num_epochs_per_validation": "val_interval",
    "num_images_per_batch": "batch_size",
    "num_warmup_epochs": "warmup_epochs",
    "random_seed": "seed",
}
# of MONAI's own algorithms, which may run beside this one
_OF_OTHERS = {
    *("num_patches_per_iter", "num_patches_per_image", "num_crops_per_image", "num_cache_workers"),
    *("num_sw_batch_size", "overlap_ratio", "patch_size", "patch_size_valid", "roi_size", "early_stop", "determ"),
    *("use_pretrain", "pretrained_path", "auto_scale_allowed", "gpu_customization"),
}
# what MONAI's generators say to each algorithm, and has no meaning here
_OF_GENERATORS = {"fill_with_datastats", "bundle_root", "gpu_customization_specs"}
# of training and inference, as what the network is built of; all else, such as batch_size, is meant for the training
_OF_BOTH = {"network_def", "image_size", "spatial_size", "tile", "overlap", "device", "amp"}


def in_our_names(params: Mapping[str, Any]) -> dict[str, Any]:
    """Name options of Auto3DSeg as the bundle does; those that only other algorithms have are left out with a word."""
    left_out = sorted(params.keys() & _OF_OTHERS)
    if left_out:
        logger.warning("left out, since only other algorithms have them: %s", ", ".join(left_out))
    known = params.keys() - _OF_OTHERS - _OF_GENERATORS
    return {_NAMES.get(key, key): value for key, value in params.items() if key in known}


def change_defaults(configs: Path, options: Mapping[str, Any]) -> None:
    """
    Make values the defaults of a bundle.

    Args:
        configs: folder with the bundle's configs. Those of training and inference are changed.
        options: values by the names in the bundle; nested ones as ``train#loss#batch``.

    Raises:
        ValueError: when there is no such option, or its value is wrong; nothing is changed then.
    """
    train, inference = (read_json(configs / f"{name}.json") for name in ("train", "inference"))
    of_network = set(re.findall(r"@(\w+)", str(inference["network_def"])))
    trained, inferred = train.keys(), inference.keys() - (train.keys() - of_network - _OF_BOTH)
    for key, value in options.items():
        first = re.split("#|::", key)[0]
        for config in (train,) * (first in trained or first not in inferred) + (inference,) * (first in inferred):
            _set(config, key, value)
    for config in (train, inference):
        parse_config(config, configs.parent)
    write_json(train, configs / "train.json")
    write_json(inference, configs / "inference.json")


def _set(config: Any, key: str, value: Any) -> None:
    *parents, last = re.split("#|::", key)
    try:
        for name in parents:
            config = config[int(name) if isinstance(config, list) else name]
        config[int(last) if isinstance(config, list) else last] = value
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"the bundle has no place {key}: there is no {error} on the way to it") from error


def parse_config(config: Mapping[str, Any], bundle_root: Path) -> ConfigParser:
    """
    Read a config of a bundle and check its options.

    Raises:
        ValueError: with all that is wrong.
    """
    parser = ConfigParser()
    parser.read_config(deepcopy(dict(config)))  # which it changes
    parser["bundle_root"] = str(bundle_root)
    try:
        parser.get_parsed_content("initialize::0")  # check_options, which looks for the parser that calls it
    except RuntimeError as error:
        raise ValueError(f"{bundle_root.name}: {error.__cause__ or error}") from error
    return parser
