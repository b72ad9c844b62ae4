# SPDX-License-Identifier: Apache-2.0
"""Everything that can be wrong with a comparison, found before the first training."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from ..networks.weights import check_sam2_layout, prepare_base_weights
from ..utils.text import nearest_name
from .cell import ComparisonCell

__all__ = ["check_cells", "check_disk", "check_earlier_runs", "check_keys"]


def check_cells(cells: Sequence[ComparisonCell]) -> list[str]:
    """
    Check bundles, keys, data, metrics and devices of cells, and the networks of trunks; other networks are checked when
    they are measured.

    Args:
        cells: one for each method and data set is enough, and all trunks.

    Returns:
        for each cell a checksum of the names of its cases.

    Raises:
        ValueError: when one of them could not run; the message names it.
    """
    checksums = []
    variants: dict[str, str] = {}
    for cell in cells:
        try:
            checksums.append(_check_cell(cell))
            if cell.metric is None:
                variants[cell.method] = _check_trunk(cell)
        except Exception as error:  # MONAI wraps what a config raises in errors of its own
            raise ValueError(f"{cell}: {reason_of(error)}") from error
    for cell in cells:
        if cell.trunk is not None:
            _check_adapted_trunk(cell, variants)
    return checksums


def check_earlier_runs(cells: Sequence[ComparisonCell], output_dir: Path) -> None:
    """
    Refuse a folder that holds the same cells with other settings.

    Raises:
        ValueError: when a cell of this name was run otherwise.
    """
    for cell in cells:
        earlier = ComparisonCell.read(cell.folder(output_dir))
        differences = [] if earlier is None else cell.differences(earlier)
        if differences:
            raise ValueError(
                f"{cell.folder(output_dir)} holds {cell} with other settings: {'; '.join(differences[:5])}. Take "
                "another --output_dir, or delete that folder to run it anew."
            )


def check_disk(
    cells: Sequence[ComparisonCell], num_parameters: Mapping[tuple[str, str], int], output_dir: Path, jobs: int
) -> None:
    """
    Check that the weights of all cells that are still to be run fit on the disk, and the checkpoints of those that run.

    Raises:
        ValueError: when they do not.
    """
    left = [cell for cell in cells if ComparisonCell.result(cell.folder(output_dir)) is None]
    needed = sum(4 * num_parameters[cell.dataset, cell.method] for cell in left)
    if left:  # with an optimizer that keeps two numbers for each weight
        needed += jobs * 3 * 4 * max(num_parameters.values())
    free = shutil.disk_usage(output_dir).free
    if needed > free:
        raise ValueError(
            f"the weights of {len(left)} trainings need {needed / 1e9:.1f} GB in {output_dir}, there are "
            f"{free / 1e9:.1f} GB; free some, or take another --output_dir."
        )


def check_keys(keys: Iterable[str], config: Mapping[str, Any]) -> None:
    """
    Check that a bundle's config has the keys; a misspelled one would do nothing on MONAI's command line.

    Args:
        keys: with "#" between the parts; the last part of several may be new.
        config: the content of train.json.

    Raises:
        ValueError: when there is no such key; the message names the nearest one.
    """
    for key in keys:
        _check_key(key, config)


def parse(cell: ComparisonCell, *configs: str, **options: Any) -> ConfigParser:
    """The configs of a cell's bundle with its options."""
    parser = ConfigParser()
    parser.read_config(cell.config_files(*configs))
    parser.update({**cell.common_options(), **options})
    return parser


def device_of(cell: ComparisonCell) -> torch.device:
    """Where a cell is trained."""
    return torch.device(parse(cell, "train").get_parsed_content("device"))


def reason_of(error: BaseException) -> str:
    """The error that others were made of, which is the one that a user can mend."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) or type(error).__name__


def _check_cell(cell: ComparisonCell) -> str:
    for file in cell.config_files("train", "evaluate"):
        if not Path(file).is_file():
            raise ValueError(f"there is no {file}; run compare in a checkout of the project, or give --bundles_dir.")
    train, evaluate = (json.loads(Path(f).read_text("utf-8")) for f in cell.config_files("train", "evaluate"))
    check_keys(cell.options, train)
    parser = parse(cell, "train")
    _check_device(device_of(cell))
    _check_numbers(parser)
    cases = [_names_of_cases(parser, part) for part in ("train", "validate")]
    if cell.metric is not None:
        known = evaluate["metrics"]
        if cell.metric not in known:
            raise ValueError(f"the bundle measures {', '.join(known)}, not {cell.metric}; give one of them as metric.")
        cases.append(_names_of_cases(parse(cell, "train", "evaluate", output_dir="eval"), "validate"))
    return hashlib.sha256(json.dumps(cases).encode()).hexdigest()[:12]


def _check_key(key: str, config: Mapping[str, Any]) -> None:
    parts = key.split("#")
    entry: Any = config
    for part in parts[:-1] or parts:
        if isinstance(entry, list):
            known = [str(index) for index in range(len(entry))]
        else:
            known = list(entry) if isinstance(entry, Mapping) else []
        if part not in known:
            raise ValueError(f"the bundle has no key {part!r} (option {key}); {nearest_name(part, known)}")
        entry = entry[int(part)] if isinstance(entry, list) else entry[part]


def _check_device(device: torch.device) -> None:
    """Without a tensor on it: the trainings may need the device for themselves."""
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"there is no device {device}: PyTorch sees {torch.cuda.device_count()} CUDA devices.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("there is no device mps on this machine.")


def _check_numbers(parser: ConfigParser) -> None:
    epochs, interval = (parser.get_parsed_content(key) for key in ("epochs", "val_interval"))
    for key, value in (("epochs", epochs), ("val_interval", interval)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{key} must be a whole number from 1, got {value!r}.")
    if epochs % interval:
        raise ValueError(
            f"epochs {epochs} must be a multiple of val_interval {interval}, so that the last epoch is validated as "
            "the others are; set both."
        )


def _names_of_cases(parser: ConfigParser, part: str) -> list[str]:
    cases = parser.get_parsed_content(f"{part}#dataset#data")
    if not cases:
        raise ValueError(f"there are no cases for {part}; check the folder with `python -m monai_sam2adapter check`.")
    return [str(case["case"]) for case in cases]


def _check_trunk(cell: ComparisonCell) -> str:
    """Build the network, which has to be trained as a whole and to fit SAM 2's layout; returns its variant."""
    parser = parse(cell, "train")
    network = parser.get_parsed_content("network_def")
    check_sam2_layout(network)
    if network.frozen_parts:
        raise ValueError(f"{', '.join(network.frozen_parts)} would stay frozen; train a trunk with adapter 'full'.")
    prepare_base_weights(network, parser.get_parsed_content("sam2_checkpoint"))
    return network.variant


def _check_adapted_trunk(cell: ComparisonCell, variants: Mapping[str, str]) -> None:
    """A trunk fits networks of its own variant only, and takes the place of other weights."""
    name = Path(str(cell.trunk)).parent.name
    variant = parse(cell, "train").get_parsed_content("variant")
    if variants.get(name, variant) != variant:
        raise ValueError(f"{cell}: variant {variant!r} cannot adapt the trunk {name}, which is {variants[name]!r}.")
    if "sam2_checkpoint" in cell.options:
        raise ValueError(f"{cell}: sam2_checkpoint and a trunk exclude each other; take one of the two.")
