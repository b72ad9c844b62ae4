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

__all__ = ["MACHINE_OPTIONS", "ComparisonCell", "build_grid", "write_phantoms"]

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
        trunk: file of the trunk that the method adapts, or that a trunk starts from. Defaults to None: the bundle's
            ``sam2_checkpoint``.
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
    def trunk_file(self) -> str:
        """Where the training of a trunk writes it."""
        return str(Path(self.folder) / "trunk.pt")

    @property
    def result_file(self) -> Path:
        """Says what a cell came to; there when it is finished."""
        return Path(self.folder) / (f"epoch_{self.epochs}.json" if self.is_rung else "result.json")

    @classmethod
    def read(cls, folder: str | Path) -> ComparisonCell | None:
        """Read ``cell.json`` of a folder, which may have been moved; None where there is none."""
        content = read_json(Path(folder) / "cell.json")
        return None if content is None else cls(**{**content, "folder": str(folder)})

    def write(self) -> None:
        """Write ``cell.json``."""
        write_json(asdict(self), Path(self.folder) / "cell.json")

    def result(self) -> dict[str, Any] | None:
        """What it came to; None when it is not finished."""
        return read_json(self.result_file)

    def config_file(self, name: str) -> str:
        """A config of the bundle."""
        return str(Path(self.bundle) / "configs" / f"{name}.json")

    def common_options(self) -> dict[str, Any]:
        """What training and evaluation of the bundle are both given."""
        own = {"bundle_root": self.bundle, "dataset_dir": self.dataset_dir, "seed": self.seed, **self.options}
        return own if self.trunk is None else {**own, "sam2_checkpoint": self.trunk}

    def identity(self) -> dict[str, Any]:
        """What its score depends on."""
        options = {key: value for key, value in self.options.items() if key not in MACHINE_OPTIONS}
        trunk = {f"trunk {key}": value for key, value in self.adapts.items()}
        own = {"bundle": Path(self.bundle).name, "metric": self.metric, "checksum of the cases": self.cases}
        return {**own, **trunk, **options}

    def check_earlier_run(self) -> None:
        """Refuse a folder that holds the same cell with other settings than those of place and machine."""
        earlier = self.read(self.folder)
        if earlier is None:
            return
        # as JSON, which knows no tuples
        before, now = (json.loads(json.dumps({"seed": cell.seed, **cell.identity()})) for cell in (earlier, self))
        differences = [
            f"{key} was {json.dumps(before[key]) if key in before else 'left out'}, is "
            f"{json.dumps(now[key]) if key in now else 'left out'}"
            for key in sorted(before.keys() | now.keys())
            if before.get(key, self) != now.get(key, self)
        ]
        if differences:
            raise ValueError(
                f"{self.folder} holds {self} with other settings: {'; '.join(differences[:5])}. Take another "
                "--output_dir, or delete that folder to run it anew."
            )


def build_grid(
    config: ComparisonConfig, output_dir: Path, bundles_dir: Path
) -> tuple[list[ComparisonCell], list[ComparisonCell]]:
    """
    Make the cells of a comparison: the trainings of trunks, and the cells that are scored, seed by seed, so that every
    method has a score as early as can be.
    """
    folders = {name: _dataset_folder(name, dataset, output_dir) for name, dataset in config.datasets.items()}

    def cell(dataset: str, own: Mapping[str, Any], place: str, **arguments: Any) -> ComparisonCell:
        bundle = bundles_dir / config.datasets[dataset]["bundle"]
        if "network_def" in own:
            own = {**own, "network_def": {**_channels_of(bundle), **own["network_def"]}}
        return ComparisonCell(
            dataset=dataset,
            bundle=str(bundle),
            dataset_dir=folders[dataset],
            folder=str(output_dir / place),
            options=config.options_of(dataset, own),
            **arguments,
        )

    trunks: dict[str, ComparisonCell] = {}
    for name, trunk in config.trunks.items():
        start = trunks[trunk["trunk"]].trunk_file if "trunk" in trunk else None
        own = {"method": name, "seed": 0, "metric": None, "trunk": start}
        trunks[name] = cell(trunk["dataset"], trunk.get("options", {}), f"trunks/{name}", **own)
    cells = [
        cell(
            *(name, options, f"cells/{name}/{method}/seed_{seed}"),
            method=method,
            seed=seed,
            metric=dataset.get("metric", "miou_pooled"),
            trunk=trunks[dataset["trunk"]].trunk_file if "trunk" in dataset and "network_def" not in options else None,
        )
        for seed in config.seeds
        for name, dataset in config.datasets.items()
        for method, options in config.methods.items()
    ]
    return list(trunks.values()), cells


def _channels_of(bundle: Path) -> dict[str, Any]:
    """How a bundle says the channels of its network; what is missing is told when the cells are checked."""
    network: Mapping[str, Any] = (read_json(bundle / "configs" / "train.json") or {}).get("network_def", {})
    return {key: network[key] for key in ("in_channels", "out_channels") if key in network}


def write_phantoms(config: ComparisonConfig, output_dir: Path) -> None:
    """Write the phantoms of all data sets that are made of them, where they are not there already."""
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
