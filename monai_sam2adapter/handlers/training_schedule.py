# SPDX-License-Identifier: Apache-2.0
"""Optimizer and learning rate of a run that is resumed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from ..utils import escaping_logger

__all__ = ["restore_schedule"]

logger = escaping_logger(__name__)

# of schedules, by the names in their states, what is not known from the number of epochs and the learning rate
_SETTINGS = ("warmup_steps", "warmup_multiplier", "end_lr", "eta_min")


def restore_schedule(
    optimizer: torch.optim.Optimizer, lr_scheduler: LRScheduler, saved: Mapping[str, Any], max_epochs: int
) -> None:
    """
    Load optimizer and schedule; when the schedule, its length, warm-up or start is another one, step it to this epoch.

    A loaded schedule keeps its old length: a cosine that has come down to 0 would stay there or rise again.
    """
    own: list[dict[str, Any]] = [
        {key: group[key] for key in ("lr", "initial_lr") if key in group} for group in optimizer.param_groups
    ]
    fresh, old = lr_scheduler.state_dict(), saved["lr_scheduler"]
    is_same = fresh.keys() == old.keys() and all(fresh.get(name) == old.get(name) for name in _SETTINGS)
    decays = [group["weight_decay"] for group in optimizer.param_groups if "weight_decay" in group]
    optimizer.load_state_dict(saved["optimizer"])
    for group, decay in zip(optimizer.param_groups, decays, strict=False):
        group["weight_decay"] = decay
    starts = [group.get("initial_lr") for group in own]
    saved_starts = [group.get("initial_lr") for group in saved["optimizer"]["param_groups"]]
    unchanged = is_same and saved["max_epochs"] == max_epochs and saved_starts == starts
    if unchanged or isinstance(lr_scheduler, ReduceLROnPlateau):  # the latter has no length
        lr_scheduler.load_state_dict(old)
        return
    logger.warning(
        "The run was started with learning rate %s and %d epochs, and goes on with learning rate %s and %d epochs: "
        "its schedule follows the new values%s.",
        *(_listed(saved_starts), saved["max_epochs"], _listed(starts), max_epochs),
        "" if is_same else ", and another warm-up or form",
    )
    for group, rates in zip(optimizer.param_groups, own, strict=True):
        group.update(rates)
    with warnings.catch_warnings():
        # torch takes it for a mistake that the schedule moves before the optimizer's first step
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step", category=UserWarning)
        for _ in range(old["last_epoch"]):
            lr_scheduler.step()


def _listed(rates: list[Any]) -> str:
    return ", ".join(map(str, dict.fromkeys(rates)))  # each value once
