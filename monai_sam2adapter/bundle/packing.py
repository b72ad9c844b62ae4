# SPDX-License-Identifier: Apache-2.0
"""Put a bundle and its trained weights into the zip file that MONAI downloads."""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.utils import ensure_tuple_rep

from ..data import read_description
from ..networks.weights import CheckpointMismatchError, SAM2Net, load_network_weights
from ..utils.files import atomic_path, sha1_of_file, write_json
from .archive import write_zip

__all__ = ["PackedBundle", "pack_bundle"]

# what is packed beside the weights; anything else in the folder is data, results or large_files.yml, which stands for
# the weights where they are too large for git
_FOLDERS = ("configs", "docs", "scripts")
_FILES = ("LICENSE*",)
_WEIGHTS = "models/model.pt"
_METADATA, _INFERENCE = "configs/metadata.json", "configs/inference.json"
# of a bundle whose classes and channels are those of the data: what holds without them
_DESCRIPTION = "default_description"
_MODEL_INFO = "model_info.json"
# in the configs, but for whoever writes a bundle and not for its users
_NOT_SETTABLE = ("bundle_root", "imports", "initialize")
# settings whose default another one gives
_COMPUTED_DEFAULTS = {"variant"}
# required by MONAI's schema of the metadata
_METADATA_KEYS = (
    *("schema", "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version"),
    *("task", "description", "authors", "copyright", "network_data_format"),
)
_IMAGE_AND_PRED = (("inputs", "image"), ("outputs", "pred"))  # of the metadata's network_data_format


@dataclass(frozen=True)
class PackedBundle:
    """
    What :func:`pack_bundle` has written.

    Args:
        path: the zip file.
        name: name of the bundle.
        version: version of the bundle.
        checksum: SHA-1 of the zip file, as MONAI's model zoo lists it.
        latest: the version of the bundle that MONAI takes for the latest by ``model_info.json``.
    """

    path: Path
    name: str
    version: str
    checksum: str
    latest: str


def pack_bundle(
    bundle_root: str | os.PathLike[str],
    weights: str | os.PathLike[str],
    output_dir: str | os.PathLike[str] = ".",
    url: str | None = None,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> PackedBundle:
    """
    Write ``<name>_v<version>.zip`` with ``<name>/configs/...`` and the weights as ``<name>/models/model.pt``.

    Whoever downloads it runs inference, or trains the network further, without naming a single option of the network:
    the packed weights are the default of ``init_checkpoint``. So the weights have to fit the
    network that the packed configs describe, which ``settings`` changes where the training was given other values than
    the defaults. Packing the same input again gives the same bytes.

    Args:
        bundle_root: folder of the bundle, whose name becomes the bundle's.
        weights: a training's ``model.pt``, or another file that
            :func:`~monai_sam2adapter.networks.weights.load_network_weights` takes.
        output_dir: folder for the zip file, made when missing. Defaults to the working directory.
        url: address that the zip file will have. It goes with the checksum into ``model_info.json`` in ``output_dir``,
            beside what that file holds already. Defaults to None: that file is left alone.
        settings: new defaults of keys at the top of the configs, such as ``{"variant": "small", "image_size": 256}``;
            the metadata follows: image size, channels in and out, and names of classes. Defaults to none.
        overwrite: whether to replace another zip file or entry of the same version. Defaults to False.

    Returns:
        what was written.

    Raises:
        FileNotFoundError: when the bundle's metadata, its inference config or the weights are missing, or the
            description of the data beside the weights, where the bundle needs it.
        FileExistsError: when there is another zip file or entry of this version, and ``overwrite`` is False.
        ValueError: when name, metadata or settings are not fit for MONAI, the weights for the network, or a link leads
            out of what is packed.
    """
    root, weights, output_dir = Path(bundle_root).expanduser().resolve(), Path(weights).expanduser(), Path(output_dir)
    _check_name(root.name)
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary) / root.name
        metadata, config, _, weights = stage_bundle(root, weights, staged, settings)
        for part in ("inferer", "postprocessing", "handlers"):  # which check the values that the network does not see
            if part in config:
                _build(config, part)

        name = f"{root.name}_v{metadata['version']}"
        path = output_dir / f"{name}.zip"
        model_info = _read_model_info(output_dir)
        with atomic_path(path) as unfinished:
            write_zip(staged, {_WEIGHTS: weights}, unfinished)
            checksum = sha1_of_file(unfinished)
            if not overwrite:
                _check_free(path, checksum, model_info.get(name))
    if url is not None:
        model_info[name] = {"checksum": checksum, "source": url}
        with atomic_path(output_dir / _MODEL_INFO) as unfinished:
            unfinished.write_text(_to_json(model_info), encoding="utf-8")
    known = [entry.rpartition("_v")[2] for entry in model_info if entry.startswith(f"{root.name}_v")]
    return PackedBundle(
        path=path,
        name=root.name,
        version=metadata["version"],
        checksum=checksum,
        latest=max([*known, metadata["version"]]),  # compared as text, as MONAI does
    )


def stage_bundle(
    root: Path, weights: Path, staged: Path, settings: Mapping[str, Any] | None
) -> tuple[dict[str, Any], ConfigParser, SAM2Net, Path]:
    """
    Copy a bundle without its weights, with new defaults and the metadata of its network.

    Args:
        root: folder of the bundle.
        weights: file of the trained network, see :func:`pack_bundle`.
        staged: folder to write; a flat copy of the weights goes beside it where one is needed.
        settings: new defaults, see :func:`pack_bundle`.

    Returns:
        the metadata, the inference config, the network with its weights, and the file of these as MONAI loads it.

    Raises:
        FileNotFoundError: as :func:`pack_bundle`.
        ValueError: as :func:`pack_bundle`.
    """
    _copy_bundle(root, staged)
    _change_defaults(staged, {**(settings or {}), **_copy_description(staged, weights)})
    _start_from_weights(staged)
    metadata = _read_metadata(staged)
    config = _read_config(staged)
    network = _build(config, "network_def")
    weights = _flat_weights(network, weights, staged.parent)
    metadata = _describe_network(metadata, network, config)
    _check_channels(network, metadata)
    (staged / _METADATA).write_text(_to_json(metadata), encoding="utf-8")
    config.read_meta(staged / _METADATA)
    return metadata, config, network, weights


def _check_name(name: str) -> None:
    if "_v" in name or not re.fullmatch(r"\w[\w-]*", name, re.ASCII):
        raise ValueError(
            f"MONAI cannot download a bundle called {name!r}: rename the folder to letters, digits and '_', without "
            "'_v', where MONAI looks for the version."
        )


def _copy_bundle(root: Path, staged: Path) -> None:
    """Copy what belongs into the file; the weights come later, since they can be large."""
    for path in _files_to_pack(root):
        target = staged / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _copy_description(staged: Path, weights: Path) -> dict[str, Any]:
    """Pack what a training has described of its data, and make it the default where the network depends on it."""
    config = _read_json(staged / _INFERENCE) if (staged / _INFERENCE).is_file() else {}
    if _DESCRIPTION not in config or not weights.is_file():
        return {}
    description = read_description(weights)
    write_json(description, (staged / _WEIGHTS).with_name("dataset.json"))
    return {_DESCRIPTION: description}


def _files_to_pack(root: Path) -> list[Path]:
    places = [root / folder for folder in _FOLDERS] + [path for pattern in _FILES for path in root.glob(pattern)]
    found = [path for place in places for path in (place, *place.rglob("*"))]
    found = [
        path
        for path in found
        if not any(part.startswith((".", "__pycache__")) for part in path.relative_to(root).parts)
    ]
    own = {path for path in found if not path.is_symlink()}
    for path in found:
        # a link may stand for a file that is packed anyway; all else would publish what nobody meant to
        if path.is_symlink() and path.resolve() not in own:
            raise ValueError(
                f"{path.relative_to(root)} is a link to {path.resolve()}, which is none of the bundle's own files; put "
                "a copy in its place, or remove it."
            )
    return [path for path in found if path.is_file()]


def _change_defaults(staged: Path, settings: Mapping[str, Any]) -> None:
    configs = {path: _read_json(path) for path in staged.glob("configs/*.json") if path.name != "metadata.json"}
    inference = configs.get(staged / "configs" / "inference.json")
    if inference is None:
        raise FileNotFoundError(f"{staged.name} has no configs/inference.json; name the folder of a whole bundle.")
    names = {key for key, value in inference.items() if _is_plain(value)} | _COMPUTED_DEFAULTS & inference.keys()
    settable = sorted(names.difference(_NOT_SETTABLE))
    for key in settings:
        if key not in settable:
            similar = difflib.get_close_matches(key, settable, 1)
            question = f", did you mean {similar[0]!r}?" if similar else "."
            raise ValueError(
                f"the bundle has no setting {key!r}{question} Those that can be set: {', '.join(settable)}."
            )
    for key, value in settings.items():
        for config in configs.values():
            if key in config:
                config[key] = value
    if settings:
        for path, config in configs.items():
            path.write_text(_to_json(config), encoding="utf-8")
    size = settings.get("tile") or settings.get("image_size")  # that the network runs at
    if size is not None:
        _change_image_size(staged, size)


def _start_from_weights(staged: Path) -> None:
    """Let a training start from the packed weights, where it has an option for that, with labels of their kind."""
    path = staged / "configs" / "train.json"
    config = _read_json(path) if path.is_file() else {}
    if "init_checkpoint" in config:
        config["init_checkpoint"] = f"$@bundle_root + '/{_WEIGHTS}'"
        if label_type := config.get(_DESCRIPTION, {}).get("label_type"):
            config["label_type"] = label_type
        path.write_text(_to_json(config), encoding="utf-8")


def _change_image_size(staged: Path, image_size: Any) -> None:
    metadata = _read_metadata(staged)
    for side in ("inputs", "outputs"):  # what is post-processed is of the size of the image that was read
        for tensor in metadata["network_data_format"][side].values():
            if "spatial_shape" in tensor:
                tensor["spatial_shape"] = list(ensure_tuple_rep(image_size, 2))
    (staged / _METADATA).write_text(_to_json(metadata), encoding="utf-8")


def _read_metadata(staged: Path) -> dict[str, Any]:
    path = staged / _METADATA
    if not path.is_file():
        raise FileNotFoundError(f"{staged.name} has no configs/metadata.json; name the folder of a whole bundle.")
    metadata = _read_json(path)
    missing = [key for key in _METADATA_KEYS if key not in metadata]
    if missing:
        raise ValueError(f"configs/metadata.json of {staged.name} lacks {', '.join(missing)}; MONAI requires them.")
    if not re.fullmatch(r"\d+\.\d+\.\d+", str(metadata["version"])):
        raise ValueError(
            f"the version in configs/metadata.json of {staged.name} is {metadata['version']!r}; expected three numbers "
            'in a string, such as "1.0.2".'
        )
    return metadata


def _read_config(staged: Path) -> ConfigParser:
    config = ConfigParser()
    config.read_config(staged / "configs" / "inference.json")
    config["bundle_root"] = str(staged)
    return config


def _build(config: ConfigParser, part: str) -> Any:
    try:
        return config.get_parsed_content(part)
    except RuntimeError as error:
        reason: BaseException = error
        while reason.__cause__ is not None:  # MONAI wraps the one that says what is wrong, once for each reference
            reason = reason.__cause__
        raise ValueError(f"{part} in configs/inference.json cannot be built: {reason}") from error


def _describe_network(metadata: dict[str, Any], network: SAM2Net, config: ConfigParser) -> dict[str, Any]:
    """The metadata with the channels that the network has and the names of the classes that the configs give."""
    try:
        image, pred = (metadata["network_data_format"][side][key] for side, key in _IMAGE_AND_PRED)
    except (KeyError, TypeError):
        return metadata  # the check of the channels says what is missing
    channels = network.config["in_channels"]
    if channels != image.get("num_channels"):
        image["num_channels"] = channels
        names = config.get(_DESCRIPTION, {}).get("channel_names", [])
        if len(names) != channels:
            names = [
                f"slice {index - channels // 2:+d}" if index != channels // 2 else "image" for index in range(channels)
            ]
        image["channel_def"] = dict(zip(map(str, range(channels)), names, strict=True))
    names = list(_build(config, "class_names")) if "class_names" in config else []
    old = pred.get("channel_def", {})
    if names and list(old.values()) != names:
        pred["num_channels"] = len(names)
        pred["channel_def"] = {str(index): name for index, name in enumerate(names)}
        for key in ("channel_colors", "channel_codes"):  # by the old numbers, or by name
            if key in pred:
                pred[key] = {old.get(number, number): value for number, value in pred[key].items()}
        metadata["pred_classes"] = f"{len(names)} channels of logits: {', '.join(names)}"
        numbered = [f"{index} {name}" for index, name in enumerate(names)]
        metadata["label_classes"] = f"single channel data: {', '.join(numbered)}"
        found = metadata["network_data_format"].get("post_processed_outputs", {}).get("pred", {})
        if "value_range" in found:
            found["value_range"] = [0, max(len(names) - 1, 1)]
            found["dtype"] = "uint8" if len(names) <= 256 else "uint16"
        if "overlapping" in config and _build(config, "overlapping"):
            metadata["label_classes"] = f"one mask a class, which may overlap: {', '.join(names)}"
            found |= {"num_channels": len(names), "channel_def": pred["channel_def"], "value_range": [0, 1]}
    return metadata


def _flat_weights(network: SAM2Net, weights: Path, folder: Path) -> Path:
    """The file to pack, as MONAI loads it: the given one, or one written to ``folder``."""
    try:
        load_network_weights(network, weights)
    except CheckpointMismatchError as error:
        raise CheckpointMismatchError(f"{error} Name its options by --set, such as --set adapter=lw.") from error
    # the loader also takes checkpoints that wrap the weights or their names, MONAI does not
    content = torch.load(weights, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(weights))
    if content.keys() == network.state_dict().keys():
        return weights
    flat = folder / "model.pt"
    torch.save(network.state_dict(), flat)
    return flat


def _check_channels(network: SAM2Net, metadata: Mapping[str, Any]) -> None:
    of_network = (network.config["in_channels"], network.config["out_channels"])
    formats = metadata["network_data_format"]
    try:
        described = tuple(formats[side][key]["num_channels"] for side, key in _IMAGE_AND_PRED)
    except (KeyError, TypeError) as error:
        raise ValueError(
            "configs/metadata.json must give num_channels of inputs/image and outputs/pred in network_data_format."
        ) from error
    if of_network != described:
        raise ValueError(
            f"configs/metadata.json describes {described[0]} channels in and {described[1]} out, but the network has "
            f"{of_network[0]} and {of_network[1]}; correct network_data_format."
        )


def _check_free(path: Path, checksum: str, entry: Mapping[str, str] | None) -> None:
    """The same content again is no conflict."""
    for place, known in (
        (path, sha1_of_file(path) if path.is_file() else checksum),
        (path.with_name(_MODEL_INFO), entry["checksum"] if entry else checksum),
    ):
        if known != checksum:
            raise FileExistsError(
                f"{place} holds {path.stem} already, with other content. Raise the version in configs/metadata.json, "
                "write elsewhere (--output_dir), or replace it (--overwrite)."
            )


def _read_model_info(folder: Path) -> dict[str, Any]:
    path = folder / _MODEL_INFO
    return _read_json(path) if path.is_file() else {}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name} is no valid JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds a {type(content).__name__}, expected keys and values.")
    return content


def _to_json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=4, ensure_ascii=False) + "\n"


def _is_plain(value: Any) -> bool:
    """Whether a value is a number, a text, or a list or dictionary of such; no object and no expression."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return "_target_" not in value and all(map(_is_plain, value.values()))
    return not (isinstance(value, str) and value[:1] in ("$", "@", "%"))
