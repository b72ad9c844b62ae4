# SPDX-License-Identifier: Apache-2.0
"""Inference over cases of which some may fail."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines import SupervisedEvaluator

from ..data.case_dataset import describe_error
from ..utils import escaping_logger, printable
from .pictures_in_parts import PicturesInParts
from .pipelined_evaluator import OUTPUT, PipelinedEvaluator

__all__ = ["CaseEvaluator"]

logger = escaping_logger(__name__)


class CaseEvaluator(PipelinedEvaluator):
    """
    :py:class:`monai_sam2adapter.engines.PipelinedEvaluator` that goes on with the next case when one fails, and raises
    at the end.

    What fails may be reading (with :py:class:`monai_sam2adapter.data.CaseDataset`), the network (out of memory, for
    one) or postprocessing, where results are written. Each failure is logged when its turn comes. Handlers meet a
    failed case as an iteration with an empty batch and an empty output. Batches hold one case.

    A case with the key ``parts`` is a picture that was not read, since it is too large for the memory.

    Args:
        in_parts: what segments and writes such a picture. Defaults to None: there is none.
        kwargs: those of ``SupervisedEvaluator``, by their names.

    Attributes:
        failures: the reason by the name of each failed case of the last run.
    """

    def __init__(self, in_parts: PicturesInParts | None = None, **kwargs: Any) -> None:
        self.failures: dict[str, str] = {}
        self.in_parts = in_parts
        super().__init__(**kwargs)

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """
        Run over all cases.

        Args:
            global_epoch: number of the epoch, for logs. Defaults to 1.

        Raises:
            RuntimeError: when a case has failed, after the others are done; it names them all.
        """
        self.failures = {}
        super().run(global_epoch)
        if self.failures:
            total = self.state.epoch_length
            done = "all" if len(self.failures) == total else f"{len(self.failures)} of {total}"
            lines = [f"  {case}: {reason}" for case, reason in self.failures.items()]
            report = "\n".join([f"{done} cases failed, {total - len(self.failures)} are done:", *lines])
            logger.error(report)  # for those who read the log and not the traceback
            raise RuntimeError(report)

    def _infer(self, batchdata: dict[str, Any]) -> dict[str, Any]:
        """Run the network on a case that was read: the case with the output, or with what went wrong."""
        if "error" in batchdata:
            return batchdata
        try:
            if "parts" in batchdata:
                return {**batchdata, OUTPUT: self._infer_in_parts(batchdata)}
            return super()._infer(batchdata)
        except Exception as error:
            reason = describe_error(error)
            logger.debug("%s", _first(batchdata, "case"), exc_info=True)
        _free_memory()
        return {**batchdata, "error": [reason]}

    def _infer_in_parts(self, batchdata: dict[str, Any]) -> dict[str, torch.Tensor]:
        """As MONAI's evaluator runs a network."""
        if self.in_parts is None:
            raise ValueError("the picture is too large to be read as a whole; give in_parts, or a larger max_pixels.")
        with self.mode(self.network), torch.autocast("cuda", enabled=self.amp, **self.amp_kwargs):
            networks, device = self._stoppable(self.network), torch.device(self.state.device)
            return self.in_parts(_first(batchdata, "file"), _first(batchdata, "case"), networks, device)

    def _iteration(self, engine: SupervisedEvaluator, batchdata: dict[str, Any]) -> Any:
        case, file = _first(batchdata, "case"), _first(batchdata, "file")
        try:
            if "error" not in batchdata:
                return super()._iteration(engine, batchdata)
            reason = _first(batchdata, "error")
        except Exception as error:
            reason = describe_error(error)
            logger.debug("%s", case, exc_info=True)
        self.failures[printable(case)] = printable(f"{file}: {reason}")
        logger.error("%s failed: %s: %s", case, file, reason)
        engine.state.batch, engine.state.output = [], []
        _free_memory()
        return engine.state.output


def _free_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # the next case may need what this one could not get


def _first(batchdata: dict[str, Any], key: str) -> str:
    values = batchdata.get(key) or ["unknown"]
    return str(values[0])
