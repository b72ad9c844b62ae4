# SPDX-License-Identifier: Apache-2.0
"""The grid of a comparison: a cell for each training, and its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import data
from ..utils.files import read_json, write_json
from .config import ComparisonConfig

__all__ = ["ComparisonCell", "build_grid", "write_phantoms"]

# options that change where a training runs, not what comes out but for rounding
MACHINE_OPTIONS = ("device", "num_workers", "cache_rate")


@dataclass(frozen=True)
class ComparisonCell:
    """
    A method on a data set with a seed, or the training of a trunk; each has a folder.

    The folder holds ``cell.json`` (these values), ``log.txt``, ``models`` (as the bundle's training writes it),
    ``eval`` (as its evaluation does), and ``result.json`` when all is done.

    Args:
        dataset: name of the data set.
        method: name of the method, or of the trunk.
        seed: seed of the training.
        bundle: folder of the bundle.
        dataset_dir: folder of the data set.
        metric: the metric that counts; None for a trunk, which is not evaluated but written in SAM 2's layout.
        folder: the cell's own folder.
        options: keys of the bundle's configs.
        trunk: file of the trunk that the method adapts. Defaults to None: the bundle's ``sam2_checkpoint``.
        adapts: what the trunk's training depends on, its :meth:`identity`.
        cases: checksum of the names of all cases, to know the data by when their folder is moved.
        epochs: number of epochs to train.
        start_epoch: epochs of the rung before, in a race. Defaults to 0.
        is_rung: whether it is a rung of a race: trained for ``epochs`` on the schedule of the whole, and left with the
            score of the validation, in ``epoch_N.json``. Defaults to False: trained to its end, and evaluated.
    """

    dataset: str
    method: str
    seed: int
    bundle: str
    dataset_dir: str
    metric: str | None
    folder: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    trunk: str | None = None
    adapts: Mapping[str, Any] = field(default_factory=dict, hash=False)
    cases: str = ""
    epochs: int = 0
    start_epoch: int = 0
    is_rung: bool = False

    def __str__(self) -> str:
        if self.metric is None:
            return f"trunk {self.method}, on {self.dataset}"
        return f"{self.dataset}, {self.method}, seed {self.seed}"

    @property
    def place(self) -> tuple[str, str]:
        """Data set and method, which cells share that differ in the seed; a trunk has no data set here."""
        return "" if self.metric is None else self.dataset, self.method

    @property
    def models(self) -> Path:
        """Where the training writes its checkpoints."""
        return Path(self.folder) / "models"

    @property
    def log(self) -> Path:
        """What the training and the evaluation print."""
        return Path(self.folder) / "log.txt"

    @property
    def trunk_file(self) -> str:
        """Where the training of a trunk writes it."""
        return str(Path(self.folder) / "trunk.pt")

    def common_options(self) -> dict[str, Any]:
        """What training and evaluation of the bundle are both given."""
        options = {"bundle_root": self.bundle, "dataset_dir": self.dataset_dir, "seed": self.seed, **self.options}
        return options if self.trunk is None else {**options, "sam2_checkpoint": self.trunk}

    def config_file(self, name: str) -> Path:
        """A config of the bundle."""
        return Path(self.bundle) / "configs" / f"{name}.json"

    def write(self) -> None:
        """Write ``cell.json``."""
        write_json(asdict(self), Path(self.folder) / "cell.json")

    @classmethod
    def read(cls, folder: str | Path) -> ComparisonCell | None:
        """Read ``cell.json`` of a folder, which may have been moved; None where there is none."""
        content = read_json(Path(folder) / "cell.json")
        return None if content is None else cls(**{**content, "folder": str(folder)})

    def result(self) -> dict[str, Any] | None:
        """What a finished cell came to; None when it is not finished."""
        return read_json(self._result_file)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Say that the cell is finished."""
        write_json(result, self._result_file)

    @property
    def _result_file(self) -> Path:
        return Path(self.folder) / (f"epoch_{self.epochs}.json" if self.is_rung else "result.json")

    def identity(self) -> dict[str, Any]:
        """What its score depends on."""
        options = {key: value for key, value in self.options.items() if key not in MACHINE_OPTIONS}
        trunk = {f"trunk {key}": value for key, value in self.adapts.items()}
        own = {"bundle": Path(self.bundle).name, "metric": self.metric, "checksum of the cases": self.cases}
        return {**own, **trunk, **options}

    def differences(self, earlier: ComparisonCell) -> list[str]:
        """What else than places and machine is not as in an earlier run of the same cell, as texts."""
        # as JSON, which knows no tuples
        before, now = (json.loads(json.dumps(cell.identity())) for cell in (earlier, self))
        texts = [
            (key, *(json.dumps(values[key]) if key in values else "left out" for values in (before, now)))
            for key in sorted(before.keys() | now.keys())
            if before.get(key, self) != now.get(key, self)
        ]
        return [f"{key} was {old}, is {new}" for key, old, new in texts]


def build_grid(
    config: ComparisonConfig, output_dir: Path, bundles_dir: Path
) -> tuple[list[ComparisonCell], list[ComparisonCell]]:
    """
    Make the cells of a comparison.

    Returns:
        the trainings of trunks, which come first, and the cells that are scored: seed by seed, so that every method has
        a score as early as can be.

    Raises:
        ValueError: when a data set has no folder.
    """
    places: dict[str, dict[str, Any]] = {
        name: {
            "dataset": name,
            "bundle": str(bundles_dir / dataset["bundle"]),
            "dataset_dir": _dataset_folder(name, dataset, output_dir),
        }
        for name, dataset in config.datasets.items()
    }
    trunks = {
        trunk: ComparisonCell(
            **places[entry["dataset"]],
            method=trunk,
            seed=0,
            metric=None,
            folder=str(output_dir / "trunks" / trunk),
            options=config.trunk_options(trunk),
        )
        for trunk, entry in config.trunks.items()
    }
    cells = [
        ComparisonCell(
            **places[name],
            method=method,
            seed=seed,
            metric=dataset.get("metric", "miou_pooled"),
            folder=str(output_dir / "cells" / name / method / f"seed_{seed}"),
            options=config.options_of(name, method),
            trunk=trunks[dataset["trunk"]].trunk_file if "trunk" in dataset else None,
        )
        for seed in config.seeds
        for name, dataset in config.datasets.items()
        for method in config.methods
    ]
    return list(trunks.values()), cells


def write_phantoms(config: ComparisonConfig, output_dir: Path) -> None:
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
                write(_dataset_folder(name, dataset, output_dir), **numbers)
            except TypeError as error:
                raise ValueError(f"phantoms of {name}: {numbers} has a value of a wrong type: {error}.") from error


def _dataset_folder(name: str, dataset: Mapping[str, Any], output_dir: Path) -> str:
    if "phantom" in dataset:
        return str(output_dir / "phantoms" / name)
    if "dataset_dir" not in dataset:
        raise ValueError(
            f"{name} needs the folder of its data: add --dataset {name}=FOLDER (in quotes where there are spaces), or "
            "dataset_dir to the file."
        )
    folder = Path(dataset["dataset_dir"]).expanduser()
    if not folder.is_dir():
        raise ValueError(f"the folder of {name}, {folder}, does not exist; correct --dataset {name}=FOLDER.")
    return str(folder.resolve())
