# SPDX-License-Identifier: Apache-2.0
"""One training of a comparison, and its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..utils.files import read_json, write_json

__all__ = ["TRUNK_FILE", "ComparisonCell", "trunk_file"]

# options that change where a training runs, not what comes out but for rounding
_OF_THE_MACHINE = ("device", "num_workers", "cache_rate")
TRUNK_FILE = "trunk.pt"
_CELL, _RESULT = "cell.json", "result.json"


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
        options: keys of the bundle's configs.
        trunk: file of the trunk that the method adapts. Defaults to None: the bundle's ``sam2_checkpoint``.
        adapts: what the trunk's training depends on, its ``identity()``.
        cases: checksum of the names of all cases, to know the data by when their folder is moved.
    """

    dataset: str
    method: str
    seed: int
    bundle: str
    dataset_dir: str
    metric: str | None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    trunk: str | None = None
    adapts: Mapping[str, Any] = field(default_factory=dict, hash=False)
    cases: str = ""

    def __str__(self) -> str:
        if self.metric is None:
            return f"trunk {self.method}, on {self.dataset}"
        return f"{self.dataset}, {self.method}, seed {self.seed}"

    def folder(self, output_dir: Path) -> Path:
        """The cell's own folder below that of the comparison."""
        if self.metric is None:
            return trunk_file(output_dir, self.method).parent
        return output_dir / "cells" / self.dataset / self.method / f"seed_{self.seed}"

    def common_options(self) -> dict[str, Any]:
        """What training and evaluation of the bundle are both given."""
        options = {"bundle_root": self.bundle, "dataset_dir": self.dataset_dir, "seed": self.seed, **self.options}
        return options if self.trunk is None else {**options, "sam2_checkpoint": self.trunk}

    def config_files(self, *names: str) -> list[str]:
        """Configs of the bundle."""
        return [str(Path(self.bundle) / "configs" / f"{name}.json") for name in names]

    def write(self, folder: Path) -> None:
        """Write ``cell.json``."""
        write_json(asdict(self), folder / _CELL)

    @classmethod
    def read(cls, folder: Path) -> ComparisonCell | None:
        """Read ``cell.json``; None where there is none."""
        content = read_json(folder / _CELL)
        return None if content is None else cls(**content)

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

    def identity(self) -> dict[str, Any]:
        """What its score depends on."""
        options = {key: value for key, value in self.options.items() if key not in _OF_THE_MACHINE}
        trunk = {f"trunk {key}": value for key, value in self.adapts.items()}
        own = {"bundle": Path(self.bundle).name, "metric": self.metric, "checksum of the cases": self.cases}
        return {**own, **trunk, **options}

    @staticmethod
    def result(folder: Path) -> dict[str, Any] | None:
        """What a finished cell came to; None when it is not finished."""
        return read_json(folder / _RESULT)

    @staticmethod
    def write_result(result: Mapping[str, Any], folder: Path) -> None:
        """Say that the cell is finished."""
        write_json(result, folder / _RESULT)


def trunk_file(output_dir: Path, name: str) -> Path:
    """Where the training of a trunk writes it."""
    return output_dir / "trunks" / name / TRUNK_FILE
