# SPDX-License-Identifier: Apache-2.0
"""What bundles with the options of cells say, and all that can be wrong with them, before the first training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.bundle import ConfigParser

from ..networks.weights import check_sam2_layout, prepare_base_weights
from ..utils.files import read_json
from ..utils.text import nearest_name
from .grid import ComparisonCell

__all__ = ["BundleFacts", "check_cells", "check_keys", "parse", "reason_of"]


@dataclass(frozen=True)
class BundleFacts:
    """What a bundle with the options of a cell says; ``cases`` is a checksum of the names of all cases."""

    cases: str
    device: str
    encoder: str
    variant: str
    epochs: int
    val_interval: int


def check_cells(trunks: Sequence[ComparisonCell], cells: Sequence[ComparisonCell]) -> dict[Any, BundleFacts]:
    """
    Check bundles, keys, data, metrics and devices of cells, and the networks of trunks, before anything is trained.

    Returns:
        what the bundles say, by :attr:`ComparisonCell.place`.

    Raises:
        ValueError: when one of them could not run; the message names it.
    """
    facts: dict[Any, BundleFacts] = {}
    trunk_of = {trunk.trunk_file: trunk for trunk in trunks}
    for cell in [*trunks, *cells]:
        try:
            facts[cell.place] = _check_cell(cell)
            if cell.trunk in trunk_of:
                _check_adapts(cell, trunk_of[cell.trunk], facts)
        except Exception as error:  # MONAI wraps what a config raises in errors of its own
            raise ValueError(f"{cell}: {reason_of(error)}") from error
    return facts


def check_keys(keys: Iterable[str], config: Mapping[str, Any]) -> None:
    """
    Check that a bundle's config has the keys; a misspelled one would do nothing on MONAI's command line.

    The parts of a key stand between "#"; the last one of several may be new.
    """
    for key in keys:
        parts = key.split("#")
        entry: Any = config
        for part in parts[:-1] or parts:
            if isinstance(entry, list):
                entry = {str(index): item for index, item in enumerate(entry)}
            known = list(entry) if isinstance(entry, Mapping) else []
            if part not in known:
                raise ValueError(f"the bundle has no key {part!r} (option {key}); {nearest_name(part, known)}")
            entry = entry[part]


def parse(cell: ComparisonCell, *configs: str) -> ConfigParser:
    """Configs of a cell's bundle, of which the later count, with its options."""
    parser = ConfigParser()
    parser.read_config([cell.config_file(name) for name in configs])
    parser.update(cell.common_options())
    return parser


def reason_of(error: BaseException) -> str:
    """The error that others were made of, which is the one that a user can mend."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) or type(error).__name__


def _check_cell(cell: ComparisonCell) -> BundleFacts:
    train, evaluate = (read_json(cell.config_file(name)) for name in ("train", "evaluate"))
    if train is None or evaluate is None:
        file = cell.config_file("train" if train is None else "evaluate")
        raise ValueError(f"there is no {file}; run compare in a checkout of the project, or give --bundles_dir.")
    check_keys(cell.options, train)
    if cell.metric is not None and cell.metric not in (known := evaluate["metrics"]):
        raise ValueError(f"the bundle measures {', '.join(known)}, not {cell.metric}; give one of them as metric.")
    parser = parse(cell, "train")
    device, variant, *epochs = map(parser.get_parsed_content, ("device", "variant", "epochs", "val_interval"))
    encoder = parser.get_parsed_content("encoder") if "encoder" in parser else "sam2"
    _check_device(torch.device(device))
    _check_epochs(*epochs)
    cases = [_names_of_cases(parser, part) for part in ("train", "validate")]
    if cell.metric is None:
        _check_trunk(parser, starts_from_trunk=cell.trunk is not None)
    else:
        cases.append(_names_of_cases(parse(cell, "train", "evaluate"), "validate"))
    return BundleFacts(
        hashlib.sha256(json.dumps(cases).encode()).hexdigest()[:12], str(device), encoder, variant, *epochs
    )


def _check_device(device: torch.device) -> None:
    """Without a tensor on it: the trainings may need the device for themselves."""
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"there is no device {device}: PyTorch sees {torch.cuda.device_count()} CUDA devices.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("there is no device mps on this machine.")


def _check_epochs(epochs: Any, val_interval: Any) -> None:
    for key, value in (("epochs", epochs), ("val_interval", val_interval)):
        if type(value) is not int or value < 1:
            raise ValueError(f"{key} must be a whole number from 1, got {value!r}.")
    if epochs % val_interval:
        raise ValueError(
            f"epochs {epochs} must be a multiple of val_interval {val_interval}, so that the last epoch is validated "
            "as the others are; set both."
        )


def _names_of_cases(parser: ConfigParser, part: str) -> list[str]:
    cases = parser.get_parsed_content(f"{part}#dataset#data")
    if not cases:
        raise ValueError(f"there are no cases for {part}; check the folder with `python -m monai_sam2adapter check`.")
    return [str(case["case"]) for case in cases]


def _check_trunk(parser: ConfigParser, starts_from_trunk: bool) -> None:
    """Build the network, which has to be trained as a whole and to fit SAM 2's layout."""
    network = parser.get_parsed_content("network_def")
    check_sam2_layout(network)
    if network.frozen_parts:
        raise ValueError(f"{', '.join(network.frozen_parts)} would stay frozen; train a trunk with adapter 'full'.")
    if not starts_from_trunk:  # whose file is not there yet
        prepare_base_weights(network, parser.get_parsed_content("sam2_checkpoint"))


def _check_adapts(cell: ComparisonCell, trunk: ComparisonCell, facts: Mapping[Any, BundleFacts]) -> None:
    if "sam2_checkpoint" in cell.options:
        raise ValueError("sam2_checkpoint and a trunk exclude each other; take one of the two.")
    own, other = (facts[each.place] for each in (cell, trunk))
    for key in ("encoder", "variant"):
        if getattr(own, key) != getattr(other, key):
            raise ValueError(
                f"{key} {getattr(own, key)!r} cannot adapt the trunk {trunk.method}, which is {getattr(other, key)!r}."
            )
