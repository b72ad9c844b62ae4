# SPDX-License-Identifier: Apache-2.0
"""The cells of a comparison."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import data
from .cell import ComparisonCell, trunk_file
from .config import ComparisonConfig

__all__ = ["comparison_cells", "trunk_cells", "write_phantoms"]


def comparison_cells(
    config: ComparisonConfig, output_dir: str | os.PathLike[str], bundles_dir: str | os.PathLike[str]
) -> list[ComparisonCell]:
    """The cells that are scored: seed by seed, so that every method has a score as early as can be."""
    return [
        ComparisonCell(
            dataset=name,
            method=method,
            seed=seed,
            bundle=str(Path(bundles_dir) / dataset["bundle"]),
            dataset_dir=_folder_of(name, dataset, output_dir),
            metric=dataset.get("metric", "miou_pooled"),
            options=config.options_of(name, method),
            trunk=str(trunk_file(Path(output_dir), dataset["trunk"])) if "trunk" in dataset else None,
        )
        for seed in config.seeds
        for name, dataset in config.datasets.items()
        for method in config.methods
    ]


def trunk_cells(
    config: ComparisonConfig, output_dir: str | os.PathLike[str], bundles_dir: str | os.PathLike[str]
) -> dict[str, ComparisonCell]:
    """The trainings of trunks that come first, by the trunk's file."""
    cells = {}
    for trunk, entry in config.trunks.items():
        dataset = config.datasets[entry["dataset"]]
        cell = ComparisonCell(
            dataset=entry["dataset"],
            method=trunk,
            seed=0,
            bundle=str(Path(bundles_dir) / dataset["bundle"]),
            dataset_dir=_folder_of(entry["dataset"], dataset, output_dir),
            metric=None,
            options=config.trunk_options(trunk),
        )
        cells[str(trunk_file(Path(output_dir), trunk))] = cell
    return cells


def write_phantoms(config: ComparisonConfig, output_dir: str | os.PathLike[str]) -> None:
    """
    Write the phantoms of all data sets that are made of them, where they are not there already.

    Raises:
        ValueError: when their folder holds other phantoms, or a number of them does not fit.
    """
    for name, dataset in config.datasets.items():
        if "phantom" in dataset:
            numbers = {key: value for key, value in dataset["phantom"].items() if key != "kind"}
            write = getattr(data, f"write_{dataset['phantom']['kind']}_phantom")
            try:
                write(_folder_of(name, dataset, output_dir), **numbers)
            except TypeError as error:
                raise ValueError(f"phantoms of {name}: {numbers} has a value of a wrong type: {error}.") from error


def _folder_of(name: str, dataset: Mapping[str, Any], output_dir: str | os.PathLike[str]) -> str:
    if "phantom" in dataset:
        return str(Path(output_dir).resolve() / "phantoms" / name)
    if "dataset_dir" not in dataset:
        raise ValueError(
            f"{name} needs the folder of its data: add --dataset {name}=FOLDER (in quotes where there are spaces), or "
            "dataset_dir to the file."
        )
    folder = Path(dataset["dataset_dir"]).expanduser()
    if not folder.is_dir():
        raise ValueError(f"the folder of {name}, {folder}, does not exist; correct --dataset {name}=FOLDER.")
    return str(folder.resolve())
