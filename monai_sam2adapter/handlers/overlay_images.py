# SPDX-License-Identifier: Apache-2.0
"""Show what the network predicts while it is validated."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events
from monai.data import decollate_batch
from PIL import Image

from ..data import LabelScheme
from ..data.case_dataset import describe_error
from ..reports import get_case_names
from ..utils import escaping_logger, own_path, printable
from ..visualize import PALETTE, output_planes

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["OverlayImageHandler"]

logger = escaping_logger(__name__)


class OverlayImageHandler:
    """
    Draw image, truth and prediction of the first cases of an evaluation, for TensorBoard and as PNG files.

    :py:func:`monai_sam2adapter.visualize.output_planes` chooses what is shown of a case. Where there is no label, as in
    inference, its panel is left out. Only the first of several processes draws, its own cases. A picture that cannot be
    drawn or written is logged and does not end the run; :py:class:`monai_sam2adapter.engines.CaseEvaluator` gets it as
    a failure of that case, to be told at the end.

    Args:
        class_names: names of the classes 1, 2, ... (no background) for the legend.
        summary_writer: TensorBoard writer, tag ``overlay/<case>``, step is the epoch. Share one writer with the other
            handlers: TensorBoard follows only the newest of several event files in a folder. Defaults to None.
        output_dir: folder for ``<case>.png``, replaced at each evaluation; made when missing. Defaults to None.
        max_cases: how many cases to draw; None for all. Defaults to 4.
        image_key: key of the image in the engine's output, ``(C, X, Y[, Z])``. Defaults to "image".
        pred_key: key of the prediction: one channel of class numbers, or a channel for each class (one-hot or logits).
            Defaults to "pred".
        label_key: key of the truth, like the prediction. Defaults to "label".
        slice_axis: spatial axis that is cut into slices. Defaults to -1.
        class_colors: red, green and blue of the classes 1, 2, ... Defaults to
            :py:data:`monai_sam2adapter.visualize.PALETTE`.
        label_scheme: names and colors of the classes in one, and whether they overlap, instead of ``class_names``,
            ``class_colors`` and ``overlapping``. Defaults to None.
        overwrite: whether to replace pictures that no run has written, or that were changed since. Defaults to False.
        overlapping: whether a pixel may have several classes, with a mask a channel. Defaults to False.

    Raises:
        ValueError: when there is neither a writer nor a folder, neither names nor a scheme or both, or ``max_cases`` is
            not positive.
    """

    def __init__(
        self,
        class_names: Sequence[str] | None = None,
        summary_writer: SummaryWriter | None = None,
        output_dir: str | os.PathLike[str] | None = None,
        max_cases: int | None = 4,
        image_key: str = "image",
        pred_key: str = "pred",
        label_key: str = "label",
        slice_axis: int = -1,
        class_colors: Sequence[tuple[int, int, int]] = PALETTE,
        label_scheme: LabelScheme | None = None,
        overwrite: bool = False,
        overlapping: bool = False,
    ) -> None:
        if summary_writer is None and output_dir is None:
            raise ValueError("OverlayImageHandler needs a summary_writer, an output_dir or both to send pictures to.")
        if (class_names is None) == (label_scheme is None):
            raise ValueError("OverlayImageHandler needs either class_names or a label_scheme, which has them.")
        if max_cases is not None and max_cases < 1:
            raise ValueError(f"max_cases must be at least 1, got {max_cases}; leave the handler out to draw none.")
        if label_scheme is not None:
            class_names, class_colors = label_scheme.names, label_scheme.colors
            overlapping = label_scheme.overlapping
        self.class_names = list(class_names or ())
        self.summary_writer = summary_writer
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.max_cases = max_cases
        self.image_key = image_key
        self.pred_key = pred_key
        self.label_key = label_key
        self.slice_axis = slice_axis
        self.class_colors = class_colors
        self.overwrite = overwrite
        self.overlapping = overlapping
        self._n_drawn = 0

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: a ``monai.engines.SupervisedEvaluator``.
        """
        if idist.get_rank() != 0:
            return
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._draw)

    def _start(self, engine: Engine) -> None:
        self._n_drawn = 0

    def _draw(self, engine: Engine) -> None:
        output = engine.state.output
        cases: Any = decollate_batch(output) if isinstance(output, Mapping) else output
        names = get_case_names(engine.state.batch, self.image_key, first_index=self._n_drawn)
        for name, case in zip(names, cases, strict=True):
            if self.max_cases is not None and self._n_drawn >= self.max_cases:
                return
            self._n_drawn += 1
            try:
                keys = self.image_key, self.pred_key, self.label_key
                planes = output_planes(case, *keys, self.slice_axis, self.overlapping)
                self._send(name, planes.draw(self.class_names, class_colors=self.class_colors), engine.state.epoch)
            except Exception as error:  # whatever the picture or the disk has: what it shows is done
                reason = f"the case is done, but there is no picture of it: {describe_error(error)}"
                logger.error("%s: %s", name, reason)
                getattr(engine, "failures", {})[printable(name)] = printable(reason)

    def _send(self, name: str, picture: np.ndarray, epoch: int) -> None:
        if self.summary_writer is not None:
            self.summary_writer.add_image(f"overlay/{name}", picture, epoch, dataformats="HWC")
        if self.output_dir is not None:
            with own_path(self.output_dir / f"{name}.png", self.overwrite) as temporary:
                Image.fromarray(picture).save(temporary, format="PNG")
