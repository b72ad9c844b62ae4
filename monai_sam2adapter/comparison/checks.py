# SPDX-License-Identifier: Apache-2.0
"""Everything that can be wrong with a comparison, found before the first training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from .cell import ComparisonCell
from .hint import nearest_name

__all__ = ["check_cells", "check_disk", "check_earlier_runs", "check_keys"]


def check_cells(cells: Sequence[ComparisonCell]) -> None:
    """
    Check bundles, keys, values, data, metrics and devices of cells; their networks are checked when they are measured.

    Args:
        cells: one for each method and data set is enough, and all trunks.

    Raises:
        ValueError: when one of them could not run; the message names it.
    """
    for cell in cells:
        try:
            _check_cell(cell)
        except Exception as error:  # MONAI wraps what a config raises in errors of its own
            raise ValueError(f"{cell}: {reason_of(error)}") from error
    _check_trunks(cells)


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
    cells: Sequence[ComparisonCell], num_parameters: Mapping[tuple[str, str], int], output_dir: Path
) -> None:
    """
    Check that the weights of all cells that are still to be run fit on the disk.

    Raises:
        ValueError: when they do not.
    """
    left = [cell for cell in cells if ComparisonCell.result(cell.folder(output_dir)) is None]
    needed = sum(4 * num_parameters[cell.dataset, cell.method] for cell in left)
    free = shutil.disk_usage(output_dir).free
    if needed > free:
        raise ValueError(
            f"the weights of {len(left)} trainings need {needed / 1e9:.1f} GB in {output_dir}, there are "
            f"{free / 1e9:.1f} GB; free some, or take another --output_dir."
        )


def check_keys(keys: Iterable[str], config: Mapping[str, Any]) -> None:
    """
    Check that a bundle's config has the keys; a misspelt one would do nothing on MONAI's command line.

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


def reason_of(error: BaseException) -> str:
    """The error that others were made of, which is the one that a user can mend."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) or type(error).__name__


def _check_cell(cell: ComparisonCell) -> None:
    for file in cell.config_files("train", "evaluate"):
        if not Path(file).is_file():
            raise ValueError(f"there is no {file}; run compare in a checkout of the project, or give --bundles_dir.")
    train, evaluate = (json.loads(Path(f).read_text("utf-8")) for f in cell.config_files("train", "evaluate"))
    check_keys(cell.options, train)
    parser = parse(cell, "train")
    _check_device(parser)
    _check_numbers(parser)
    for part in ("train", "validate"):
        _check_cases(parser, part)
    if cell.metric is not None:
        known = [*train["validate"]["key_metric"], *evaluate.get("validate#key_metric", {})]
        known = [*known, *evaluate["validate#additional_metrics"]]
        if cell.metric not in known:
            raise ValueError(f"the bundle measures {', '.join(known)}, not {cell.metric}; give one of them as metric.")
        _check_cases(parse(cell, "train", "evaluate", output_dir="eval"), "validate")


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


def _check_device(parser: ConfigParser) -> None:
    torch.empty(1, device=torch.device(parser.get_parsed_content("device")))


def _check_numbers(parser: ConfigParser) -> None:
    epochs, interval = (parser.get_parsed_content(key) for key in ("epochs", "val_interval"))
    for key, value in (("epochs", epochs), ("val_interval", interval)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{key} must be a whole number from 1, got {value!r}.")
    if epochs % interval:
        raise ValueError(
            f"epochs {epochs} must be a multiple of val_interval {interval}, so that the last epoch is validated as "
            "the others are."
        )


def _check_cases(parser: ConfigParser, part: str) -> None:
    if not parser.get_parsed_content(f"{part}#dataset#data"):
        raise ValueError(f"there are no cases for {part}; check the folder with `python -m monai_sam2adapter check`.")


def _check_trunks(cells: Sequence[ComparisonCell]) -> None:
    """A trunk fits networks of its own variant only, and is written in SAM 2's layout."""
    by_name = {cell.method: cell for cell in cells if cell.metric is None}
    variants = {name: parse(cell, "train").get_parsed_content("variant") for name, cell in by_name.items()}
    for cell in by_name.values():
        for key, value in (("adapter", "full"), ("positional_encoding", "sam2")):
            found = parse(cell, "train").get_parsed_content(key)
            if found != value:
                raise ValueError(f"{cell}: {key} is {found!r}; a trunk needs {value!r}, to be written as SAM 2's.")
    for cell in cells:
        if cell.trunk is None:
            continue
        name = Path(cell.trunk).parent.name
        variant = parse(cell, "train").get_parsed_content("variant")
        if name in variants and variants[name] != variant:
            raise ValueError(f"{cell}: variant {variant!r} cannot adapt the trunk {name}, which is {variants[name]!r}.")
        if "sam2_checkpoint" in cell.options:
            raise ValueError(f"{cell}: sam2_checkpoint and a trunk exclude each other; take one of the two.")
