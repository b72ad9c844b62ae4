# SPDX-License-Identifier: Apache-2.0
"""What is compared: data sets, methods, seeds and the budget they share."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import data
from ..utils.files import read_json
from ..utils.text import nearest_name

__all__ = ["ComparisonConfig"]

# names become folders and cells of tables
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]*")
_DATASET_KEYS = ("bundle", "dataset_dir", "phantom", "metric", "trunk", "options")
_TRUNK_KEYS = ("dataset", "options")
# keys of a bundle that the comparison sets by itself
_OWN_KEYS = ("bundle_root", "dataset_dir", "output_dir", "checkpoint_file", "seed", "resume", "overwrite", "split")


@dataclass(frozen=True)
class ComparisonConfig:
    """
    A comparison: each method is trained and evaluated on each data set with each seed.

    ``options`` are keys of the bundles' train.json as on MONAI's command line, "#" included. Those of a data set take
    the place of those of all, and those of a method the place of both.

    Args:
        title: heading of the tables.
        datasets: by name, ``bundle`` (its folder's name), ``dataset_dir`` or ``phantom`` (``kind`` and the arguments of
            ``monai_sam2adapter.data.write_<kind>_phantom``), ``metric`` (a metric of the bundle's evaluate.json,
            "miou_pooled" if left out), ``trunk`` (the name of a trunk that the methods adapt) and ``options``.
        methods: by name, the options that make the method, such as ``{"adapter": "hp"}``.
        seeds: one training each.
        options: options of all trainings.
        trunks: by name, ``dataset`` and ``options``: networks that are trained first, as a whole and from random
            weights, to be adapted to other data sets in the place of SAM 2's weights.
        overrides: options that take the place of all others, from the command line.

    Raises:
        ValueError: when a part is missing, of a wrong type, unknown, or does not go with another one.
    """

    title: str
    datasets: Mapping[str, Mapping[str, Any]]
    methods: Mapping[str, Mapping[str, Any]]
    seeds: Sequence[int]
    options: Mapping[str, Any] = field(default_factory=dict)
    trunks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.title, str) or not self.title.strip():
            raise ValueError(f"title must be a text, got {self.title!r}.")
        _check_seeds(self.seeds)
        _check_options(self.options, "options")
        _check_options(self.overrides, "overrides")
        for part in ("datasets", "methods", "trunks"):
            _check_names(getattr(self, part), part)
        for part in ("datasets", "methods"):
            if not getattr(self, part):
                raise ValueError(f"{part} is empty; name at least one.")
        for name, trunk in self.trunks.items():
            _check_keys(trunk, _TRUNK_KEYS, f"trunks#{name}")
            _look_up(trunk.get("dataset"), self.datasets, f"trunks#{name}#dataset")
            _check_options(trunk.get("options", {}), f"trunks#{name}#options")
        for name, dataset in self.datasets.items():
            self._check_dataset(dataset, f"datasets#{name}")
        for name, method in self.methods.items():
            _check_options(method, f"methods#{name}")
            for key in self.overrides:
                if key in method:  # the rows of the table would have names that are not theirs
                    raise ValueError(f"{key} is what makes the method {name!r}, so it cannot be set for all of them.")

    def _check_dataset(self, dataset: Mapping[str, Any], place: str) -> None:
        _check_keys(dataset, _DATASET_KEYS, place)
        for key in ("bundle", "metric", "dataset_dir"):
            if not isinstance(dataset.get(key, ""), str) or (key == "bundle" and not dataset.get(key)):
                raise ValueError(f"{place}#{key} must be a text, got {dataset.get(key)!r}.")
        if "dataset_dir" in dataset and "phantom" in dataset:
            raise ValueError(f"{place} has both dataset_dir and phantom; take one of the two.")
        if "phantom" in dataset:
            _check_phantom(dataset["phantom"], f"{place}#phantom")
        if "trunk" in dataset:
            _look_up(dataset["trunk"], self.trunks, f"{place}#trunk")
        _check_options(dataset.get("options", {}), f"{place}#options")

    @classmethod
    def load(
        cls, source: str | os.PathLike[str], methods: Mapping[str, Mapping[str, Any]] | None = None
    ) -> ComparisonConfig:
        """
        Read a JSON file, or a preset of the package by its name.

        Args:
            source: path or name.
            methods: those of a file that names none. Defaults to None: the file has to.

        Raises:
            FileNotFoundError: when ``source`` is neither.
            ValueError: when the file is no JSON, or its content is no comparison.
        """
        presets = cls.presets()
        path = presets.get(str(source), Path(source).expanduser())
        content = read_json(path)
        if content is None:
            raise FileNotFoundError(
                f"there is no file {path}; give a JSON file or one of the presets {', '.join(presets)}."
            )
        return cls.from_dict(content, methods)

    @classmethod
    def presets(cls) -> dict[str, Path]:
        """The files of the package's presets by their names."""
        return {path.stem: path for path in sorted((Path(__file__).parent / "presets").glob("*.json"))}

    @classmethod
    def from_dict(
        cls, content: Mapping[str, Any], methods: Mapping[str, Mapping[str, Any]] | None = None
    ) -> ComparisonConfig:
        """
        Build a comparison from what a file holds, with methods where it names none.

        Raises:
            ValueError: when a key is unknown or missing, or a value does not fit.
        """
        _check_keys(content, ("title", "datasets", "methods", "seeds", "options", "trunks"), "the comparison")
        content = content if methods is None else {"methods": methods, **content}
        missing = [key for key in ("title", "datasets", "methods", "seeds") if key not in content]
        if missing:
            raise ValueError(f"the comparison lacks {', '.join(missing)}.")
        return cls(**content)

    def with_arguments(
        self,
        dataset_dirs: Mapping[str, str] | None = None,
        overrides: Mapping[str, Any] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> ComparisonConfig:
        """
        Put in what the command line gives.

        Args:
            dataset_dirs: folders by the names of data sets.
            overrides: options that take the place of all others.
            seeds: take the place of the comparison's own. Defaults to None: those stay.

        Raises:
            ValueError: when a data set is unknown or has phantoms, or a value does not fit.
        """
        datasets = {name: dict(dataset) for name, dataset in self.datasets.items()}
        for name, folder in (dataset_dirs or {}).items():
            _look_up(name, datasets, "the data set")
            if "phantom" in datasets[name]:
                raise ValueError(f"{name} is made of phantoms in this comparison; its folder cannot be given.")
            datasets[name]["dataset_dir"] = folder
        return replace(self, datasets=datasets, overrides=overrides or {}, seeds=self.seeds if seeds is None else seeds)

    def options_of(self, dataset: str, method: str) -> dict[str, Any]:
        """The options of a method on a data set."""
        own = self.datasets[dataset].get("options", {})
        return {**self.options, **own, **self.methods[method], **self.overrides}

    def trunk_options(self, trunk: str) -> dict[str, Any]:
        """The options of the training of a trunk."""
        entry = self.trunks[trunk]
        own = self.datasets[entry["dataset"]].get("options", {})
        return {**self.options, **own, **entry.get("options", {}), **self.overrides}


def _check_seeds(seeds: Any) -> None:
    numbers = list(seeds) if isinstance(seeds, list | tuple) else []
    if not numbers or any(isinstance(seed, bool) or not isinstance(seed, int) or seed < 0 for seed in numbers):
        raise ValueError(f"seeds must be a list of whole numbers from 0, such as [0, 1, 2], got {seeds!r}.")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"seeds must differ, got {numbers}.")


def _check_names(entries: Any, part: str) -> None:
    if not isinstance(entries, Mapping):
        raise ValueError(f"{part} must map names to their settings, got {type(entries).__name__}.")
    for name, entry in entries.items():
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} in {part} names folders, too: take letters, digits, spaces and any of . _ + - behind a "
                "letter or digit."
            )
        if not isinstance(entry, Mapping):
            raise ValueError(f"{part}#{name} must be a dictionary, got {entry!r}.")
    folders = [name.lower() for name in entries]  # not every file system tells cases apart
    if len(set(folders)) < len(folders):
        raise ValueError(f"the names in {part} must differ by more than case, got {list(entries)}.")


def _check_options(options: Any, place: str) -> None:
    if not isinstance(options, Mapping):
        raise ValueError(f"{place} must map keys of a bundle to values, got {options!r}.")
    for key, value in options.items():
        if key.partition("#")[0] in _OWN_KEYS:
            raise ValueError(f"{place} sets {key}, which the comparison sets by itself; leave it out.")
        if value is None:  # MONAI would take the bundle's own value
            raise ValueError(f"{place}#{key} is null; leave it out for the bundle's own value.")


def _check_phantom(phantom: Any, place: str) -> None:
    if not isinstance(phantom, Mapping) or "kind" not in phantom:
        raise ValueError(f"{place} must have a kind and the numbers of its cases, got {phantom!r}.")
    kinds = [name[6:-8] for name in data.__all__ if name.startswith("write_") and name.endswith("_phantom")]
    _look_up(phantom["kind"], kinds, f"{place}#kind")
    known = inspect.signature(getattr(data, f"write_{phantom['kind']}_phantom")).parameters
    _check_keys(phantom, ("kind", *(name for name in known if name not in ("output_dir", "progress"))), place)


def _check_keys(entry: Any, known: Collection[str], place: str) -> None:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{place} must be a dictionary, got {type(entry).__name__}.")
    for key in entry:
        _look_up(key, known, f"a key of {place}")


def _look_up(name: Any, known: Collection[str], what: str) -> None:
    if isinstance(name, str) and name in known:
        return
    raise ValueError(f"{what} is {name!r}, which is unknown; {nearest_name(name, known)}")
