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

__all__ = ["OWN_KEYS", "ComparisonConfig", "check_training_options"]

# names become folders and cells of tables
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]*")
# the keys of each part of a file, and what they hold; those with "?" may be left out
_COMPARISON = {"title": str, "datasets": Mapping, "methods": Mapping, "seeds": Sequence}
_COMPARISON |= {"options?": Mapping, "trunks?": Mapping}
_DATASET = {"bundle": str, "dataset_dir?": str, "phantom?": Mapping, "metric?": str, "trunk?": str, "options?": Mapping}
_TRUNK = {"dataset": str, "trunk?": str, "options?": Mapping}
_WORDS = {str: "a text", Mapping: "a dictionary", Sequence: "a list"}
# what only the network that the bundles come with takes
_OF_BUNDLES_NETWORK = {
    *(
        "encoder",
        "variant",
        "adapter",
        "adapter_config",
        "positional_encoding",
        "output_stride",
        "activation_checkpointing",
    ),
    *("sam2_checkpoint", "dinov2_checkpoint", "init_checkpoint", "frozen_dtype", "dino_variant", "dino_size"),
    "network_def",
}
# keys of a bundle that the command sets by itself
OWN_KEYS = ("bundle_root", "dataset_dir", "output_dir", "checkpoint_file", "seed", "resume", "overwrite", "split")


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
        methods: by name, the options that make the method, such as ``{"adapter": "hp"}``; or, for another network,
            ``{"network_def": {"_target_": "monai.networks.nets.UNet", ...}}``, whose ``in_channels`` and
            ``out_channels`` are those of the bundle's network where they are left out. It adapts no trunk.
        seeds: one training each.
        options: options of all trainings.
        trunks: by name, ``dataset`` and ``options``: networks that are trained first, as a whole and from random
            weights, to be adapted to other data sets in the place of SAM 2's weights. One with the name of an earlier
            one as its ``trunk`` starts from that one's weights, and so has seen several data sets.
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
        content = {name: value for name, value in vars(self).items() if name != "overrides"}
        _check_entry(content, _COMPARISON, "the comparison")
        if any(type(seed) is not int or seed < 0 for seed in self.seeds) or len({*self.seeds}) < len(self.seeds):
            raise ValueError(f"seeds must be different whole numbers from 0, such as [0, 1, 2], got {self.seeds!r}.")
        for part in ("datasets", "methods", "trunks"):
            _check_names(content[part], part)
        for place, options in {"options": self.options, "overrides": self.overrides}.items():
            check_training_options(options, place)
        earlier: list[str] = []
        for name, trunk in self.trunks.items():
            _check_entry(trunk, _TRUNK, f"trunks#{name}")
            if "trunk" in trunk and trunk["trunk"] not in earlier:
                raise ValueError(
                    f"trunks#{name}#trunk is {trunk['trunk']!r}, which is none of those before it: {earlier}."
                )
            earlier.append(name)
            check_training_options(trunk.get("options", {}), f"trunks#{name}#options")
            _look_up(trunk["dataset"], self.datasets, f"trunks#{name}#dataset")
        for name, dataset in self.datasets.items():
            _check_dataset(dataset, self.trunks, f"datasets#{name}")
        for name, method in self.methods.items():
            check_training_options(method, f"methods#{name}")
            for key in self.overrides.keys() & method.keys():  # the rows of the table would have names not theirs
                raise ValueError(f"{key} is what makes the method {name!r}, so it cannot be set for all of them.")

    @classmethod
    def load(cls, source: str | os.PathLike[str], **arguments: Any) -> ComparisonConfig:
        """
        Read a JSON file, or a preset of the package by its name.

        Args:
            source: path or name.
            arguments: of :meth:`from_dict`.

        Raises:
            FileNotFoundError: when ``source`` is neither.
            ValueError: when the file is no JSON, or its content is no comparison.
        """
        presets = cls.presets()
        path = presets.get(str(source), Path(source).expanduser())
        content = read_json(path)
        if content is None:
            names = ", ".join(presets)
            raise FileNotFoundError(f"there is no file {path}; give a JSON file or one of the presets {names}.")
        return cls.from_dict(content, **arguments)

    @classmethod
    def presets(cls) -> dict[str, Path]:
        """The files of the package's presets by their names."""
        return {path.stem: path for path in sorted((Path(__file__).parent / "presets").glob("*.json"))}

    @classmethod
    def from_dict(
        cls,
        content: Mapping[str, Any],
        methods: Mapping[str, Mapping[str, Any]] | None = None,
        dataset_dirs: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> ComparisonConfig:
        """
        Build a comparison from what a file and the command line say.

        Args:
            content: of a file.
            methods: those of a content that names none. Defaults to None: it has to.
            dataset_dirs: folders by the names of data sets, in the place of those in the content.
            arguments: of the class, in the place of those in the content.

        Raises:
            ValueError: when a key is unknown or missing, or a value does not fit.
        """
        content = {"methods": methods, **content} if methods and isinstance(content, Mapping) else content
        _check_entry(content, _COMPARISON, "the comparison")
        config = cls(**{**content, **arguments})
        datasets = {name: dict(dataset) for name, dataset in config.datasets.items()}
        for name, folder in (dataset_dirs or {}).items():
            _look_up(name, datasets, "the data set")
            if "phantom" in datasets[name]:
                raise ValueError(f"{name} is made of phantoms in this comparison; its folder cannot be given.")
            datasets[name]["dataset_dir"] = folder
        return replace(config, datasets=datasets)

    def seen_by(self, trunk: str) -> list[str]:
        """The data sets that a trunk is trained on, one after the other."""
        own = self.trunks[trunk]
        return [*(self.seen_by(own["trunk"]) if "trunk" in own else []), own["dataset"]]

    def options_of(self, dataset: str, own: Mapping[str, Any]) -> dict[str, Any]:
        """
        The options of a training on a data set, given those that a method or a trunk has of its own. A method with a
        ``network_def`` gets none of those that only the bundles' own network has.
        """
        shared = {**self.options, **self.datasets[dataset].get("options", {}), **self.overrides}
        if "network_def" in own:
            shared = {key: value for key, value in shared.items() if key.partition("#")[0] not in _OF_BUNDLES_NETWORK}
        return {**shared, **own}


def _check_entry(entry: Any, keys: Mapping[str, Any], place: str) -> None:
    """Check that an entry has the keys that it has to have, no others, and values of their types."""
    if not isinstance(entry, Mapping):
        raise ValueError(f"{place} must be a dictionary, got {entry!r}.")
    types = {key.removesuffix("?"): kind for key, kind in keys.items()}
    for key in entry:
        _look_up(key, types, f"a key of {place}")
    missing = [key for key in keys if not key.endswith("?") and not entry.get(key)]
    if missing:
        raise ValueError(f"{place} lacks {', '.join(missing)}.")
    for key, value in entry.items():
        # a text is a sequence, too
        if not isinstance(value, types[key]) or (
            isinstance(value, str) and (types[key] is not str or not value.strip())
        ):
            raise ValueError(f"{key} of {place} must be {_WORDS[types[key]]}, got {value!r}.")


def _check_dataset(dataset: Any, trunks: Collection[str], place: str) -> None:
    _check_entry(dataset, _DATASET, place)
    check_training_options(dataset.get("options", {}), f"{place}#options")
    if "trunk" in dataset:
        _look_up(dataset["trunk"], trunks, f"{place}#trunk")
    if "phantom" in dataset:
        if "dataset_dir" in dataset:
            raise ValueError(f"{place} has both dataset_dir and phantom; take one of the two.")
        kinds = [name[6:-8] for name in data.__all__ if name.startswith("write_") and name.endswith("_phantom")]
        kind = dataset["phantom"].get("kind")
        _look_up(kind, kinds, f"{place}#phantom#kind")
        known = inspect.signature(getattr(data, f"write_{kind}_phantom")).parameters.keys() - {"output_dir", "progress"}
        for key in dataset["phantom"]:
            _look_up(key, sorted({"kind", *known}), f"a key of {place}#phantom")


def _check_names(entries: Mapping[str, Any], part: str) -> None:
    for name in entries:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} in {part} names folders, too: take letters, digits, spaces and any of . _ + - behind a "
                "letter or digit."
            )
    if len({name.lower() for name in entries}) < len(entries):  # not every file system tells cases apart
        raise ValueError(f"the names in {part} must differ by more than case, got {list(entries)}.")


def check_training_options(options: Any, place: str, own_keys: Sequence[str] = OWN_KEYS) -> None:
    """Refuse options of a bundle that are set by who runs it, or are None; ``place`` is named in errors."""
    if not isinstance(options, Mapping):
        raise ValueError(f"{place} must map keys of a bundle to values, got {options!r}.")
    for key, value in options.items():
        if key.partition("#")[0] in own_keys:
            raise ValueError(f"{place} sets {key}, which the command sets by itself; leave it out.")
        if value is None:  # MONAI would take the bundle's own value
            raise ValueError(f"{place}#{key} is null; leave it out for the bundle's own value.")


def _look_up(name: Any, known: Collection[str], what: str) -> None:
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"{what} is {name!r}, which is unknown; {nearest_name(name, known)}")
