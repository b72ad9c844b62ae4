# SPDX-License-Identifier: Apache-2.0
"""Write what inference has found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine
from monai.data import decollate_batch
from monai.engines import IterationEvents

from ..transforms import SaveSegmentationd

__all__ = ["SegmentationSaver"]


class SegmentationSaver(SaveSegmentationd):
    """
    :py:class:`monai_sam2adapter.transforms.SaveSegmentationd` as a handler, for each case of an evaluator.

    It works right behind the evaluator's postprocessing, within the iteration, so that what cannot be written is a
    failed case of :py:class:`monai_sam2adapter.engines.CaseEvaluator`. It is no step of the postprocessing, since
    MONAI Label and MONAI Deploy run that themselves and have no case to name a file by.

    Arguments are those of the transform.
    """

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: a ``monai.engines.Evaluator``.
        """
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._save)

    def _save(self, engine: Engine) -> None:
        batch, output = (_one_by_one(items) for items in (engine.state.batch, engine.state.output))
        for case, found in zip(batch, output, strict=True):
            if "parts" not in case:  # else written while it was segmented
                self({**case, **found})


def _one_by_one(items: Any) -> Any:
    return decollate_batch(items) if isinstance(items, Mapping) else items
