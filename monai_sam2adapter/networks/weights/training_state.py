# SPDX-License-Identifier: Apache-2.0
"""The file that a training run is resumed from: what it holds, and the frozen weights that it names by a checksum."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .read import CheckpointFormatError, read_checkpoint, read_content, tensors_in, tensors_sha256

__all__ = ["TRAINING_STATE_FORMAT", "find_frozen", "is_training_state", "read_training_state", "to_plain"]

TRAINING_STATE_FORMAT = 2
"""In format 1 the frozen parameters stand among the others."""

_CONTENT: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("network", "optimizer", "lr_scheduler", "scaler"), dict),
    **dict.fromkeys(("epoch", "iteration", "max_epochs", "best_metric_epoch"), int),
    "best_metric": (float, int, type(None)),
}
_LACKS = object()  # of none of these types


def read_training_state(path: Path) -> dict[str, Any]:
    """
    Read the ``last.pt`` of a training run.

    Args:
        path: an existing file.

    Returns:
        its content; the names of the network's tensors are bare.

    Raises:
        CheckpointError: when it cannot be read, or is no such file.
    """
    saved = read_content(path, mmap=False)  # the next epoch replaces the file
    if not is_training_state(saved):
        raise CheckpointFormatError(
            f"{path} is not a checkpoint of a training run; give the output_dir of the run to resume."
        )
    broken = [key for key, kind in _CONTENT.items() if not isinstance(saved.get(key, _LACKS), kind)]
    if broken:
        raise CheckpointFormatError(
            f"{path} is damaged or was not written by a training: {', '.join(broken)} are missing or of a wrong type. "
            "Resume from another file, or start anew."
        )
    # before it was noted whether the last epoch was validated, a best network has to do
    return {"validated": path.with_name("model.pt").is_file(), **saved, "network": tensors_in(saved, path)}


def is_training_state(content: Any) -> bool:
    """Whether what was read from a file is the state of a training run."""
    return isinstance(content, dict) and content.get("format") in (1, TRAINING_STATE_FORMAT)


def find_frozen(frozen: Mapping[str, torch.Tensor], sha256: str | None, best: Path) -> dict[str, torch.Tensor] | None:
    """
    Look for the frozen weights that belong to a training state.

    Args:
        frozen: those that the network has.
        sha256: checksum of those of the state; None when it has none, or holds them.
        best: the whole network that the run has saved, which need not be there.

    Returns:
        what has to be loaded besides the state: nothing when the network has the right ones, else those of ``best``;
        None when neither has them.
    """
    if sha256 is None or tensors_sha256(frozen) == sha256:
        return {}
    found = read_checkpoint(best) if best.is_file() else {}
    base = {name: found[name] for name in frozen if name in found}
    return base if tensors_sha256(base) == sha256 else None


def to_plain(value: Any) -> Any:
    """Turn nested values into CPU tensors, dicts, lists and Python numbers, which ``weights_only=True`` can load."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(to_plain(item) for item in value)
    return value.item() if isinstance(value, np.generic) else value
