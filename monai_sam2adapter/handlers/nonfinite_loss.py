# SPDX-License-Identifier: Apache-2.0
"""Stop a training whose loss is no longer a number."""

from __future__ import annotations

from ignite.engine import Engine
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys

__all__ = ["NonFiniteLossHandler"]


class NonFiniteLossHandler:
    """
    Raise an error when the loss is NaN or infinite, before its gradients reach the weights.

    The run then ends with a non-zero exit code, and checkpoints written before keep finite weights. ``ignite``'s
    ``TerminateOnNan`` looks only after the optimizer's step, and ends the run as if it had succeeded.
    """

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: a ``monai.engines.SupervisedTrainer``.
        """
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: SupervisedTrainer) -> None:
        """
        Args:
            engine: trainer that has just computed a loss.

        Raises:
            RuntimeError: when the loss is NaN or infinite.
        """
        loss = engine.state.output[CommonKeys.LOSS]
        if loss.isfinite().all():
            return
        rates = sorted({group["lr"] for group in engine.optimizer.param_groups})
        raise RuntimeError(
            f"training stopped: the loss is {loss.mean().item()} at epoch {engine.state.epoch}, iteration "
            f"{engine.state.iteration}, learning rate {', '.join(f'{rate:g}' for rate in rates)}. Checkpoints of the "
            "epochs before are kept. Try a smaller learning rate, full precision (--amp False), or look for NaN and "
            "wrong labels in the data."
        )
