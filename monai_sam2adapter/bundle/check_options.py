# SPDX-License-Identifier: Apache-2.0
"""Every option of a run is known and right, before anything is read, built or deleted."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from pydoc import locate
from typing import Any

from monai.bundle import ConfigComponent, ConfigParser
from monai.bundle.properties import InferProperties, MetaProperties, TrainProperties
from monai.utils import BundlePropertyConfig

from ..networks.nets.adapter_options import resolve_adapters
from ..networks.nets.encoders import check_encoder_options
from ..utils import escaping_logger, nearest_name, printable, read_json
from .options import NOT_COMPUTED, OPTIONS

__all__ = ["check_options"]

logger = escaping_logger(__name__)

# what MONAI itself looks for, and its experiment tracking puts in
_OF_MONAI = {
    *("_meta_", "bundle_root", "imports", "initialize", "run", "finalize"),
    *("tracking_uri", "experiment_name", "run_name", "save_execute_config", "is_not_rank0"),
    *(
        str(entry[BundlePropertyConfig.ID]).replace("::", "#")
        for group in (TrainProperties, InferProperties, MetaProperties)
        for entry in group.values()
    ),
}
# of all bundles, where some have no use for it: weights know their modality
_IDLE = {"modality"}
# as difflib measures it: how alike a name and an argument are that it was meant to be
_CLOSE = 0.8
_REFERENCE = re.compile(r"[@%](\w+(?:(?:#|::)\w+)*)")


def check_options() -> None:
    """
    Refuse a config with options that are unknown or of a wrong value; the first step of every bundle's ``initialize``.

    MONAI's ``run`` takes any ``--option`` and any file for a part of the config: a name that nothing refers to changes
    nothing, and a wrong value is met hours later, or never. Here

    - a key at the top, or in a section such as ``train``, that nothing refers to (``--adaptor``) is refused with the
      nearest name. Keys of own config files are fine where something refers to them;
    - so is an argument that the component does not have (``--network_def#adaptor``);
    - the options' values must be as :py:data:`monai_sam2adapter.bundle.OPTIONS` says, also where one is written in the
      place that refers to it (``--train#trainer#max_epochs``). What has to be computed from data is left for the one
      that computes it;
    - an adapter's settings must be its own.

    A size that has no effect beside another is said in the log.

    It finds the config among the callers, since MONAI does not hand it to what it builds.

    Raises:
        ValueError: with all that is wrong, one line each.
        RuntimeError: when it is not called by a ``monai.bundle.ConfigParser``.
    """
    parser = _calling_parser()
    config: Any = parser.config
    files = _own_files(config)
    problems = [*_unknown_keys(config, files), *_unknown_arguments(config), *_wrong_values(config)]
    problems += [problem for file in files for problem in _wrong_in_place(config, file)]
    if "trt_args" in config and isinstance(config.get("checkpoint_file"), (list, tuple)):
        problems.append(
            "TensorRT runs one network, not an ensemble: give one checkpoint_file, or PyTorch's config alone."
        )
    warmup, epochs = config.get("warmup_epochs"), config.get("epochs")
    if isinstance(warmup, int) and isinstance(epochs, int) and 0 < epochs <= warmup:
        problems.append(
            f"warmup_epochs is {warmup} of {epochs} epochs, so that the learning rate is never reached; give fewer."
        )
    tile = config.get("tile")
    # a bundle with crops turns what it trains on by 90 degrees; evaluation, which has metrics, does not
    if "crop_size" in config and "metrics" not in config and isinstance(tile, (list, tuple)) and len({*tile}) > 1:
        problems.append(
            f"tile is {tile}, but this training turns windows by 90 degrees: give a square, tile={max(tile)}."
        )
    problems = problems or [*_wrong_values(config, parser), *_wrong_settings(parser)]
    if len(problems) > 1:
        problems = [f"{len(problems)} options are wrong:", *problems]
    if problems:
        raise ValueError("\n".join(problems))
    _warn_of_idle_sizes(config, files)


def _calling_parser() -> ConfigParser:
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, ConfigParser):
            return caller
        frame = frame.f_back
    raise RuntimeError("check_options is a step of a bundle's config; there is no MONAI ConfigParser that calls it.")


def _unknown_keys(config: Mapping[str, Any], files: list[dict[str, Any]]) -> Iterator[str]:
    """Keys that nothing refers to. A macro (``%key``) has put a copy in its place: a copy elsewhere counts, too."""
    references = {found.replace("::", "#") for text in _texts(config) for found in _REFERENCE.findall(text)}
    used = set(_IDLE)
    for name in references | _OF_MONAI:
        parts = name.split("#")
        used |= {"#".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
    defaults = {key: [file[key] for file in files if key in file] for key in config}
    for key, value in config.items():
        # what the bundle itself gives may have lost its use, where a user has replaced the part that referred to it
        if key.startswith("_") or value in defaults[key] or _is_program(value):
            continue
        is_copied = isinstance(value, (Mapping, list)) and bool(value) and _count(config, value) > 1
        if key not in used and not is_copied:
            yield _unknown(key, "", [name for name in config if name in OPTIONS and name not in NOT_COMPUTED | {key}])
        elif key not in references and isinstance(value, Mapping) and "_target_" not in value:
            own = {name for section in defaults[key] if isinstance(section, Mapping) for name in section}
            for child in value:
                if f"{key}#{child}" not in used | {f"{key}#{name}" for name in own}:
                    yield _unknown(child, f"{key}#", [name for name in value if name != child])


def _own_files(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the bundle's own files hold that this config is made of: all their keys are in it."""
    root = config.get("bundle_root")
    paths = sorted(Path(root).glob("configs/*.json")) if isinstance(root, str) and "\0" not in root else ()
    contents = [read_json(path) or {} for path in paths]
    return [content for content in contents if not any("#" not in key and key not in config for key in content)]


def _is_program(value: Any) -> bool:
    """A list of steps or an expression that refers to something: what ``run`` is told to run, by any name."""
    return isinstance(value, (list, str)) and any(_REFERENCE.search(text) for text in _texts(value))


def _unknown(key: str, place: str, known: list[str]) -> str:
    return f"unknown option {place}{key}: {nearest_name(key, known)} Nothing in the config refers to it."


def _unknown_arguments(config: Any, place: str = "") -> Iterator[str]:
    if isinstance(config, list):
        for index, value in enumerate(config):
            yield from _unknown_arguments(value, f"{place}{index}#")
    elif isinstance(config, Mapping):
        known, takes_others = _parameters(config.get("_target_"))
        for key, value in config.items():
            is_typo = bool(get_close_matches(key, known, n=1, cutoff=_CLOSE))
            if known and key not in {*known, *ConfigComponent.non_arg_keys} and (is_typo or not takes_others):
                nearest, target = nearest_name(key, known), config["_target_"]
                yield f"unknown option {place}{key}: {nearest} {target} has no such argument."
            yield from _unknown_arguments(value, f"{place}{key}#")


def _parameters(target: Any) -> tuple[list[str], bool]:
    """Names of the arguments of a function or class, none when it cannot be looked at; and whether it takes others."""
    component = locate(target) if isinstance(target, str) and "." in target and not target.startswith("$") else None
    if not callable(component):
        return [], True
    names: list[str] = []
    takes_others = False
    # a class hands what it does not know itself on to the next one; it may also read some of it, as AsDiscreted does
    makers = (
        [vars(base)["__init__"] for base in component.__mro__ if "__init__" in vars(base)]
        if inspect.isclass(component)
        else [component]
    )
    for maker in makers:
        try:
            parameters = inspect.signature(maker).parameters.values()
        except (TypeError, ValueError):  # written in C
            return [], True
        names += [one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
        if all(one.kind is not one.VAR_KEYWORD for one in parameters):
            break
        takes_others = True
    return [name for name in dict.fromkeys(names) if name != "self"], takes_others


def _wrong_values(config: Mapping[str, Any], parser: ConfigParser | None = None) -> Iterator[str]:
    """Of the options that are plain values, or with a parser of those that are expressions of plain values."""
    for key, rule in OPTIONS.items():
        if key not in config:
            continue
        value = config[key]
        if _is_deferred(value):
            if parser is None or key in NOT_COMPUTED or not _is_computable(key, config):
                continue
            value = _computed(parser, key)
        problem = rule.problem(key, value)
        if problem:
            yield f"{problem}."


def _wrong_in_place(config: Any, own: Any, place: str = "") -> Iterator[str]:
    """Plain values that stand where the bundle's own file refers to an option."""
    if isinstance(own, str) and own.startswith("@"):
        name = own[1:]
        if name in OPTIONS and name not in NOT_COMPUTED and not _is_deferred(config):
            problem = OPTIONS[name].problem(place, config)
            if problem:
                yield f"{problem}."
    elif isinstance(own, Mapping) and isinstance(config, Mapping):
        for key in own.keys() & config.keys() if own.get("_target_") == config.get("_target_") else ():
            yield from _wrong_in_place(config[key], own[key], f"{place}#{key}".lstrip("#"))
    elif isinstance(own, list) and isinstance(config, list):
        for index, (value, entry) in enumerate(zip(config, own, strict=False)):
            yield from _wrong_in_place(value, entry, f"{place}#{index}")


def _wrong_settings(parser: ConfigParser) -> Iterator[str]:
    """Settings that the adapter or the encoder does not have."""
    config: Any = parser.config
    names: tuple[str, ...] = ("encoder", "variant", "positional_encoding", "output_stride")
    if all(name in config for name in names):
        try:
            # a variant that is not given is the encoder's own
            values = [_computed(parser, name) for name in names if name == "variant" or _is_computable(name, config)]
            if len(values) == len(names):
                check_encoder_options(*values)
        except ValueError as error:
            yield f"{error}."
    names = ("adapter", "adapter_config")
    if all(name in config and _is_computable(name, config) for name in names):
        adapter, settings = (_computed(parser, name) for name in names)
        try:
            resolve_adapters(adapter, settings)
        except ValueError as error:
            yield f"adapter {adapter} cannot have adapter_config {printable(settings)}: {error}"


def _warn_of_idle_sizes(config: Mapping[str, Any], files: list[dict[str, Any]]) -> None:
    """Say which sizes, given by the user, have no effect beside ``tile``, or without it."""
    reasons = {"overlap": "there is no tile"}
    if config.get("tile") is not None:
        reasons = {
            "image_size": f"with tile {config['tile']} images are not resized",
            "crop_size": f"windows of tile {config['tile']} are cropped",
        }
    for name, reason in reasons.items():
        if any(name in file and file[name] != config.get(name) for file in files):
            logger.warning("%s %s has no effect: %s", name, config.get(name), reason)


def _computed(parser: ConfigParser, name: str) -> Any:
    value = parser.get_parsed_content(name)
    parser.ref_resolver.remove_resolved_content(name)  # a later step may give it another value
    return value


def _is_deferred(value: Any) -> bool:
    return (isinstance(value, str) and value.startswith(("$", "@", "%"))) or (
        isinstance(value, Mapping) and "_target_" in value
    )


def _is_computable(key: str, config: Mapping[str, Any]) -> bool:
    """Whether a text can be computed from plain values, without any component, which may read files."""
    value = config.get(key)
    if not _is_deferred(value):
        return True
    if not isinstance(value, str):
        return False
    return all(name in config and name != key and _is_computable(name, config) for name in _REFERENCE.findall(value))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(entry)


def _count(config: Any, wanted: Any) -> int:
    """How often a value is in a config."""
    entries = config.values() if isinstance(config, Mapping) else config if isinstance(config, list) else ()
    return int(config == wanted) + sum(_count(entry, wanted) for entry in entries)
