# SPDX-License-Identifier: Apache-2.0
"""The folder of a training run: one training at a time, resumed with the options that it was started with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from filelock import FileLock, Timeout
from torch.utils.data import DistributedSampler

from ..networks.weights.training_state import read_training_state
from ..utils import escaping_logger, is_same_file, printable, require_flags, require_writable, sha256_of_file
from .synchronizers import gather_lists

__all__ = [
    "BEST",
    "LAST",
    "LOCK_TIMEOUT",
    "case_names",
    "check_case_names",
    "check_folder",
    "lock_folder",
    "options_as_text",
    "report_options",
    "require_unfinished",
    "state_path",
]

logger = escaping_logger(__name__)

LAST, BEST = "last.pt", "model.pt"
"""Names of the state of the last epoch, and of the best network."""

LOCK_TIMEOUT = 10.0
"""Seconds to wait for a lock."""


def options_as_text(options: Mapping[str, Any] | None) -> dict[str, str]:
    """Values as text; of a file what counts is the content, wherever it lies."""
    return {
        key: f"a file of SHA-256 {sha256_of_file(Path(value))}"
        if isinstance(value, (str, os.PathLike)) and value and Path(value).is_file()
        else str(value)
        for key, value in (options or {}).items()
    }


def check_folder(
    folder: Path,
    resume: bool,
    overwrite: bool,
    cases: Mapping[str, Any] | None,
    init_checkpoint: str | os.PathLike[str] | None,
) -> None:
    """See :py:meth:`monai_sam2adapter.handlers.TrainingCheckpoint.check_output_dir`."""
    require_flags(resume=resume, overwrite=overwrite)
    if resume and overwrite:
        raise ValueError("resume and overwrite exclude each other: go on with the earlier run, or replace it.")
    if (folder / ".lock").exists() and idist.get_rank() == 0:
        lock_folder(folder).release()
    last = state_path(folder, init_checkpoint)
    if resume and not last.is_file():
        raise FileNotFoundError(
            f"nothing to resume: there is no {last}. Give the output_dir of an earlier run, or leave out resume."
        )
    found = [path.name for path in (last, folder / BEST) if path.exists()]
    if found and not (resume or overwrite or is_same_file(init_checkpoint, folder / BEST)):
        raise ValueError(
            f"{folder} holds {' and '.join(found)} of an earlier run. Go on with that run (--resume True), "
            f"improve its model (--init_checkpoint {folder / BEST}), write elsewhere (--output_dir), or replace "
            "it (--overwrite True)."
        )
    require_writable(folder)
    if resume:
        check_cases(read_training_state(last), cases)


def require_unfinished(folder: Path, saved: Mapping[str, Any], max_epochs: int, patience: int | None) -> None:
    """Raise ValueError when nothing is left to do of a run that is to be resumed."""
    if saved["epoch"] > max_epochs or (saved["epoch"] == max_epochs and saved["validated"]):
        raise ValueError(
            f"the run in {folder} is finished: {saved['epoch']} of {max_epochs} epochs are done. To train longer, "
            f"resume with more than {saved['epoch']} epochs (--epochs)."
        )
    waited = saved.get("waited", 0)
    if patience is not None and waited >= patience:
        raise ValueError(
            f"the run in {folder} has stopped: {waited} validations gave no better network. To train longer, resume "
            f"with a patience of more than {waited} (--patience)."
        )


def state_path(folder: Path, init_checkpoint: str | os.PathLike[str] | None) -> Path:
    """
    Where the state of the last epoch is kept.

    MONAI Label offers every ``*.pt`` beside a bundle's ``model.pt`` as a model, the shortest name first. So a run that
    improves this model in its place, as a training there does, keeps its state in a folder of its own.

    Args:
        folder: of the run's best network.
        init_checkpoint: file that the network's weights were taken from.
    """
    return folder / "training" / LAST if is_same_file(init_checkpoint, folder / BEST) else folder / LAST


def check_cases(saved: Mapping[str, Any], cases: Mapping[str, Any] | None) -> None:
    """
    Refuse to resume on other cases than the run was started on.

    Raises:
        ValueError: when an option that chooses them has another value than in ``saved``.
    """
    changes = _changes(saved, cases)
    if changes:
        raise ValueError(
            f"the run was started on other cases: {changes}. Resume with the values that it was started with, or start "
            "another run (--output_dir); else it is validated on cases that it has learned."
        )


def case_names(loader: Any) -> list[str]:
    """
    What the cases of a loader are called, sorted: by the entry ``case``, else by their image's file, wherever it lies.

    Args:
        loader: a data loader; of one whose data set has no list ``data``, nothing is known. Those of all processes are
            meant: each has the same list, of which a ``DistributedSampler`` or the data set takes a share, or it has
            one that is a share already.

    Raises:
        ValueError: when processes, on machines with data of their own, have other lists where they should be the same.
    """
    dataset, sampler = getattr(loader, "dataset", None), getattr(loader, "sampler", None)
    items = getattr(dataset, "undivided", getattr(dataset, "data", ()))
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, Mapping) for item in items):
        return []
    names = sorted(str(item["case"]) if "case" in item else Path(str(item.get("image"))).name for item in items)
    found: list[list[str]] = gather_lists(names)
    if not isinstance(sampler, DistributedSampler):
        return sorted(name for share in found for name in share)
    for rank, others in enumerate(found):
        if others != found[0]:
            differ = sorted(set(others) ^ set(found[0]))
            raise ValueError(
                f"process {rank} found {len(others)} cases and process 0 {len(found[0])}, which differ in "
                f"{_shorten(differ)}; give the same data set to every machine of the run (--dataset_dir)."
            )
    return names


def check_case_names(saved: Mapping[str, Any], names: Mapping[str, list[str]]) -> None:
    """
    Refuse to resume where data were added or removed since: folds are drawn anew then.

    Args:
        saved: the training's state, which keeps the names as ``case_names``; earlier versions did not.
        names: names of the cases for each use, such as training and validation.

    Raises:
        ValueError: when they are others.
    """
    for use, now in names.items():
        before = saved.get("case_names", {}).get(use) or now
        if now and before != now:
            gone, new = sorted(set(before) - set(now)), sorted(set(now) - set(before))
            raise ValueError(
                f"the run was started on {len(before)} cases for {use}, now there are {len(now)}: "
                f"{len(gone)} are gone ({_shorten(gone)}), {len(new)} are new ({_shorten(new)}). Resume with the data "
                "that it was started with, or start another run from its weights (--output_dir, --init_checkpoint); "
                "else it is validated on cases that it has learned."
            )


def _shorten(names: list[str]) -> str:
    return printable(", ".join(names[:3])) + (", ..." if len(names) > 3 else "") or "none"


def report_options(saved: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Say which options have other values than in ``saved``."""
    changes = _changes(saved, options)
    if changes:
        logger.warning("The run goes on with other options than it was started with: %s.", changes)


def _changes(saved: Mapping[str, Any], options: Mapping[str, Any] | None) -> str:
    earlier, now = saved.get("options", {}), options_as_text(options)  # earlier versions have noted none
    changed = [key for key in now if earlier.get(key, now[key]) != now[key]]
    return "; ".join(f"{key} was {earlier[key]} and is {now[key]}" for key in changed)


def lock_folder(folder: Path) -> FileLock:
    """
    The lock of a folder, taken for this process, which may take it again.

    It ends with the process. The workers of a killed one, which share it, need some seconds to notice.
    """
    lock = FileLock(folder / ".lock", is_singleton=True)
    try:
        lock.acquire(timeout=LOCK_TIMEOUT)
    except Timeout:
        raise ValueError(
            f"another training writes to {folder}; wait for its end, or write elsewhere (--output_dir)."
        ) from None
    return lock
