# SPDX-License-Identifier: Apache-2.0
"""The choice in a bundle: made once, before training, and read from then on."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist

from ...data import LabelProfile
from ...utils.files import read_json, write_json
from ..nets import AdaptedSAM2
from ..weights import check_base_weights
from .choice import AdapterChoice
from .costs import AdapterCosts
from .rule import check_macs_budget, choose_adapter

__all__ = ["ADAPTER_CHOICE_FILE", "AUTO_ADAPTER", "prepare_adapter_choice", "read_adapter_choice"]

logger = logging.getLogger(__name__)

ADAPTER_CHOICE_FILE = "adapter_choice.json"
"""Name of the file with the choice, in the folder of the weights."""

AUTO_ADAPTER = "auto"
"""What a bundle's key ``adapter`` says to have it chosen."""


def read_adapter_choice(
    adapter: str,
    weights: str | os.PathLike[str],
    adapter_config: Mapping[str, Any] | None = None,
    macs_budget: float | None = None,
) -> AdapterChoice:
    """
    The adapter that a network has: the one that was asked for or, for "auto", the one that the training has chosen.

    Args:
        adapter: name of a method, or "auto".
        weights: file of the network's weights, which need not exist; the choice lies beside it.
        adapter_config: settings of the method, empty or None for its own defaults; not for "auto".
        macs_budget: only for "auto": None, or the budget that the choice was made with.

    Returns:
        the choice; without a reason where it was not made by us.

    Raises:
        FileNotFoundError: when there is no choice beside the weights.
        ValueError: when settings or a budget do not go with the adapter, or the budget is not that of the choice.
    """
    _check_options(adapter, adapter_config, macs_budget)
    path = _path_beside(weights)
    if adapter != AUTO_ADAPTER:
        given = AdapterChoice(adapter, dict(adapter_config) if adapter_config else None)
        _warn_of_another_choice(given, path)
        return given
    return _check_budget(_read(path), macs_budget, path)


def prepare_adapter_choice(
    adapter: str,
    weights: str | os.PathLike[str],
    profile: Callable[[], LabelProfile],
    build: Callable[..., AdaptedSAM2],
    image_size: int | Sequence[int],
    adapter_config: Mapping[str, Any] | None = None,
    macs_budget: float | None = None,
    sam2_checkpoint: str | os.PathLike[str] | None = None,
    dinov2_checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> None:
    """
    Before a training: choose the adapter where "auto" asks for it, print it, and write it beside the weights-to-be.

    A run that is resumed keeps the choice that it was started with. A new run with another adapter removes the choice
    of the run that it replaces. Of several processes all choose, with the same result, and the first one writes.

    Args:
        adapter: as in :func:`read_adapter_choice`.
        weights: as in :func:`read_adapter_choice`.
        profile: looks at the labels of the training; called for "auto" only.
        build: builds the network, see :class:`~monai_sam2adapter.networks.adapter_choice.AdapterCosts`; called for
            "auto" only.
        image_size: side or sides of the network's input, in pixels.
        adapter_config: as in :func:`read_adapter_choice`.
        macs_budget: for "auto", what one image may cost in inference, in 10^9 MACs; None for the other adapters.
        sam2_checkpoint: as in :func:`~monai_sam2adapter.networks.weights.prepare_base_weights`; that there is one is
            checked here, before any label is read.
        dinov2_checkpoint: the same for DINOv2.
        resume: whether the run goes on from an earlier one. Defaults to False.

    Raises:
        FileNotFoundError: when the run that is resumed has no choice.
        ValueError: when options do not go with each other, there are no weights to start from, or the budget is too
            small.
    """
    _check_options(adapter, adapter_config, macs_budget)
    path = _path_beside(weights)
    if resume:
        if adapter == AUTO_ADAPTER:
            logger.info("From %s: %s", path, _check_budget(_read(path), macs_budget, path))
        return
    if adapter != AUTO_ADAPTER:
        if idist.get_rank() == 0:
            path.unlink(missing_ok=True)
        idist.barrier()  # the others look whether it is there
        return
    if macs_budget is None:
        raise ValueError(
            "adapter 'auto' needs a budget: give macs_budget, in 10^9 multiply-accumulate operations per image, such "
            "as --macs_budget 8. `python -m monai_sam2adapter profile` shows what networks cost."
        )
    costs = AdapterCosts(build, image_size)
    check_macs_budget(macs_budget, costs)
    check_base_weights(costs.network, sam2_checkpoint, dinov2_checkpoint)
    choice = choose_adapter(profile(), macs_budget, costs)
    if idist.get_rank() == 0:
        write_json(choice.to_dict(), path)
    idist.barrier()  # the others read it as soon as they build the network
    logger.info("%s", choice)


def _check_options(adapter: str, adapter_config: object, macs_budget: float | None) -> None:
    if adapter_config and not isinstance(adapter_config, Mapping):
        raise ValueError(
            f"adapter_config must be a dictionary, got {adapter_config!r}; write it as "
            "--adapter_config \"{'bottleneck_ratio': 0.5}\" or --adapter_config#bottleneck_ratio 0.5."
        )
    if adapter == AUTO_ADAPTER and adapter_config:
        raise ValueError(
            f"adapter 'auto' chooses the settings by itself, but adapter_config is {adapter_config!r}; leave it out, "
            "or name the adapter."
        )
    if adapter != AUTO_ADAPTER and macs_budget is not None:
        raise ValueError(
            f"macs_budget {macs_budget!r} is for adapter 'auto' alone, and adapter is {adapter!r}; leave it out."
        )


def _path_beside(weights: str | os.PathLike[str]) -> Path:
    return Path(weights).expanduser().with_name(ADAPTER_CHOICE_FILE)


def _read(path: Path) -> AdapterChoice:
    content = read_json(path)
    if content is None:
        raise FileNotFoundError(
            f"adapter 'auto' needs {path}, which the training with --adapter auto writes beside its weights; keep the "
            "two files together, or give adapter and adapter_config as the training printed them."
        )
    try:
        return AdapterChoice.from_dict(content)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _check_budget(choice: AdapterChoice, macs_budget: float | None, path: Path) -> AdapterChoice:
    if macs_budget is not None and macs_budget != choice.macs_budget:
        raise ValueError(
            f"macs_budget is {macs_budget!r}, but the adapter in {path} was chosen for {choice.macs_budget:g}; leave "
            "macs_budget out, or train anew."
        )
    return choice


def _warn_of_another_choice(given: AdapterChoice, path: Path) -> None:
    """Else the weights beside a choice are refused for their shapes only, which do not say what to do."""
    if path.is_file():
        try:
            chosen = _read(path)
        except ValueError:  # it is not needed
            return
        if (chosen.adapter, chosen.config) != (given.adapter, given.config):
            logger.warning(
                "adapter is %s with adapter_config %s, but %s says that %s with %s was chosen for the weights beside "
                "it; give --adapter auto to have these.",
                *(given.adapter, given.config, path, chosen.adapter, chosen.config),
            )
