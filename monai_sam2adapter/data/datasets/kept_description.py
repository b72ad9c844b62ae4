# SPDX-License-Identifier: Apache-2.0
"""The description of the data that a training has seen, beside its weights."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.utils import ensure_tuple

from ...utils.files import is_same_file, read_json, write_json
from ...utils.logs import escaping_logger
from ..orientation import SLICES_BY, require_axcodes
from ..pixel_values import is_normalization

__all__ = ["DESCRIPTION_FILE", "FIXED_BY_WEIGHTS", "keep_description", "kept_description", "read_description"]

logger = escaping_logger(__name__)

DESCRIPTION_FILE = "dataset.json"
FIXED_BY_WEIGHTS = (
    *("class_names", "normalization", "orientation", "slices_by", "slice_axis", "black_and_white"),
    *("label_type", "regions", "regions_class_order"),
)
"""A file of weights that is used with other values of these would give nonsense."""


def keep_description(
    description: Mapping[str, Any],
    output_dir: str | os.PathLike[str],
    resume: bool = False,
    init_checkpoint: str | os.PathLike[str] | None = None,
    **used: Any,
) -> None:
    """
    Write what the weights of a training rely on to ``dataset.json`` beside them.

    Args:
        description: what ``describe_volumes`` or ``describe_pictures`` has returned.
        output_dir: folder of the weights.
        resume: whether the training goes on, so that it must be as what is kept. Defaults to False.
        init_checkpoint: weights that the training starts from. Where they are the ``model.pt`` of ``output_dir``, which
            stays until there is a better one, it must be as what is kept, too. Defaults to None.
        used: what the training uses in place of an entry of the description, such as ``class_names``.

    Raises:
        FileExistsError: when there is a file of this name that no training has written.
        ValueError: when nothing was described, or the run to resume, or the model to be replaced by a better one, had
            other classes, normalization or slices.
    """
    if "fingerprint" not in description:
        raise ValueError("no data were described, only the default is there; give a dataset_dir")
    path = Path(output_dir) / DESCRIPTION_FILE
    content = {**description, **used}
    found = kept_description(path)
    in_place = is_same_file(init_checkpoint, path.with_name("model.pt"))
    kept = (found if resume or in_place else None) or content
    changed = [key for key in FIXED_BY_WEIGHTS if kept.get(key) != content.get(key)]
    if changed:
        before, now = kept.get(changed[0]), content.get(changed[0])
        advice = "resume with the same data and options, or begin a new run elsewhere"
        if not resume:
            advice = "train as the model was (--description @default_description in a packed bundle), or elsewhere"
        raise ValueError(
            f"the run in {output_dir} had {changed[0]} {before!r}, now it is {now!r}; {advice} (--output_dir)"
        )
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        write_json(content, path)


def read_description(
    checkpoint_file: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    default: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """
    Read what ``keep_description`` has written beside weights.

    Args:
        checkpoint_file: the weights, or a list of those of an ensemble.
        default: what to return when there are no weights either, so that a network can be built without them. Defaults
            to None: that is an error.

    Returns:
        the description.

    Raises:
        FileNotFoundError: when there is no description beside the weights.
        ValueError: when it is damaged, or members of an ensemble have other classes, normalization or slices.
    """
    files = [Path(file).expanduser() for file in ensure_tuple(checkpoint_file)]
    if len(files) == 1:
        return _read_one(files[0], default)
    content, *others = (_read_one(file) for file in files)
    for file, other in zip(files[1:], others, strict=True):
        changed = [key for key in FIXED_BY_WEIGHTS if other.get(key) != content.get(key)]
        if changed:
            raise ValueError(
                f"{file} was trained with {changed[0]} {other.get(changed[0])!r}, {files[0]} with "
                f"{content.get(changed[0])!r}: they make no ensemble, since images are prepared once for all. Train "
                "the folds by train_folds, which has the same for all, or leave one of the two out."
            )
    return content


def _read_one(checkpoint_file: Path, default: Mapping[str, Any] | None = None) -> dict[str, Any]:
    path = checkpoint_file.with_name(DESCRIPTION_FILE)
    content = read_json(path)
    if content is None and default is not None and not checkpoint_file.is_file():
        return dict(default)
    if content is None:
        raise FileNotFoundError(
            f"no {path}, which says how images are normalized for {checkpoint_file} and what its classes are; the "
            "training has written it beside the weights: copy it, too"
        )
    if not isinstance(content, dict) or "class_names" not in content or "normalization" not in content:
        raise ValueError(f"{path} holds no class_names and normalization; copy the one of the training")
    problem = _description_problem(content)
    if problem:
        raise ValueError(f"{path} is not as a training has written it: {problem}; copy the one of the training")
    if "slice_axis" in content and "orientation" not in content:
        logger.warning(
            "%s is of an earlier version and does not say in which orientation volumes were cut: each is cut along the "
            "axis %d of its array; only volumes that are stored as those of the training give right results",
            path,
            content["slice_axis"],
        )
    return content


def _description_problem(content: Mapping[str, Any]) -> str:
    """Which entry of a description cannot be; empty when all is well."""
    names, normalization = content["class_names"], content["normalization"]
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        return f"class_names is {names!r}, expected texts"
    if len(set(names)) < len(names):
        return f"class_names has a name twice: {names}"
    if not isinstance(normalization, list) or not normalization or not all(map(is_normalization, normalization)):
        return f"normalization is {normalization!r}, expected lower and upper, mean and std of each channel"
    number = content.get("num_channels", len(normalization))
    if not isinstance(number, int) or number != len(normalization):
        return f"num_channels is {number!r}, but normalization has {len(normalization)} channels"
    axis, slices_by = content.get("slice_axis", -1), content.get("slices_by", SLICES_BY[0])
    if not isinstance(axis, int) or not -3 <= axis <= 2:
        return f"slice_axis is {axis!r}, expected -3 to 2"
    if slices_by not in SLICES_BY:
        return f"slices_by is {slices_by!r}, expected one of {', '.join(SLICES_BY)}"
    try:
        require_axcodes(content.get("orientation", "LPS"))
    except ValueError as error:
        return str(error).rstrip(".")
    return ""


def kept_description(path: Path) -> dict[str, Any] | None:
    """What a training has written there; a file of this name that tells of a data set is not for us to replace."""
    try:
        content = read_json(path)
    except ValueError:
        content = ""
    if content is not None and not (isinstance(content, dict) and "fingerprint" in content):
        raise FileExistsError(
            f"{path} was not written by a training, which would replace it; write elsewhere (--output_dir), or move it."
        )
    return content
