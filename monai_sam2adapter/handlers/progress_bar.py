# SPDX-License-Identifier: Apache-2.0
"""Progress bars for trainers and evaluators."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines import Trainer
from monai.utils import CommonKeys
from tqdm.auto import tqdm

__all__ = ["EpochProgressBar"]


class EpochProgressBar:
    """
    Show one progress bar for each epoch of a trainer, with the loss, and for each run of an evaluator.

    It needs no arguments in ``attach`` and so fits into MONAI's lists of handlers. ``ignite``'s ``ProgressBar`` does
    not, and redraws at every iteration whatever the interval, which fills log files. Only the first of several
    processes shows a bar.

    Args:
        desc: text in front of the bar. Defaults to None: "Epoch k/n" for a trainer, "Evaluation" for others.
        log_interval: seconds between updates when the standard error stream is a file and not a terminal. Defaults to
            30.
    """

    def __init__(self, desc: str | None = None, log_interval: float = 30.0) -> None:
        self.desc = desc
        self.log_interval = log_interval
        self._bar: Any = None

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: trainer or evaluator.
        """
        if idist.get_rank() != 0:
            return
        engine.add_event_handler(Events.EPOCH_STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._close)

    def _open(self, engine: Engine) -> None:
        is_trainer = isinstance(engine, Trainer)
        desc = self.desc or (f"Epoch {engine.state.epoch}/{engine.state.max_epochs}" if is_trainer else "Evaluation")
        interval = 0.1 if sys.stderr.isatty() else self.log_interval
        self._bar = tqdm(
            total=engine.state.epoch_length,
            desc=desc,
            mininterval=interval,
            maxinterval=max(10.0, interval),
            file=sys.stderr,
        )

    def _advance(self, engine: Engine) -> None:
        loss = _loss(engine.state.output)
        if loss is not None:
            self._bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
        self._bar.update()
        if self._bar.n == self._bar.total:
            self._bar.close()  # here and not at the epoch's end, where a validation may draw its own bar first

    def _close(self, engine: Engine) -> None:
        self._bar.close()  # for data of unknown length; closing twice is harmless


def _loss(output: Any) -> float | None:
    """Loss in the output of a MONAI engine: a dictionary, or a list of them where it is repeated in each."""
    first = output[0] if isinstance(output, list) and output else output
    loss = first.get(CommonKeys.LOSS) if isinstance(first, Mapping) else None
    # a list, the result of MONAI's decollating, has plain numbers where the dictionary has tensors
    return loss.item() if isinstance(loss, torch.Tensor) else loss
