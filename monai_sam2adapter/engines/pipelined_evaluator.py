# SPDX-License-Identifier: Apache-2.0
"""Cases that are read, segmented and scored or written side by side."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from threading import Event
from typing import Any

import torch
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents

from ..inferers import ResizeInferer

__all__ = ["PipelinedEvaluator"]

# of the evaluator's arguments, those for what follows the network
_FOR_RESULTS = ("postprocessing", "key_val_metric", "additional_metrics", "metric_cmp_fn", "val_handlers", "decollate")
OUTPUT = "output"  # of the network, in the batch until its turn
_END = object()


class PipelinedEvaluator(SupervisedEvaluator):
    """
    ``monai.engines.SupervisedEvaluator`` that works on three batches at a time.

    While one is postprocessed and met by the handlers, the network runs on the next one, and the one after that is
    read: each has a thread of its own, one batch ahead of the other and never more, so that memory is bounded. Results,
    events and their order are those of one batch after the other, and so are all bits. Batches are dictionaries.

    An ``inferer`` may return a dictionary, whose entries become those of the output, such as
    :py:class:`monai_sam2adapter.inferers.VolumeSliceInferer` with ``postprocessing``.

    The ``network`` may be an ensemble, a ``torch.nn.ModuleList``, whose probabilities the inferer averages.
    ``monai.engines.EnsembleEvaluator`` would keep the output of each network, with all classes, for a whole volume.

    Arguments are those of ``SupervisedEvaluator``, by their names.

    Raises:
        ValueError: when there is an ensemble, but the inferer is none that averages.
    """

    def __init__(self, **kwargs: Any) -> None:
        network, inferer = kwargs.get("network"), kwargs.get("inferer")
        if isinstance(network, torch.nn.ModuleList):
            if not isinstance(inferer, ResizeInferer):
                raise ValueError(
                    f"a {type(inferer).__name__} runs one network, but there is an ensemble of {len(network)}; give "
                    "one checkpoint_file, or take a VolumeSliceInferer or ResizeInferer, which average."
                )
            if kwargs.pop("compile", False):  # each by itself: the list has no forward pass
                for member in network:
                    member.compile(**(kwargs.get("compile_kwargs") or {}))
        super().__init__(**kwargs)
        # the part that runs in a thread: an engine without events of its own, since these belong to the main thread
        own = {name: value for name, value in kwargs.items() if name not in _FOR_RESULTS}
        self._ahead = SupervisedEvaluator(**{**own, "inferer": self._until_stopped, "decollate": False})
        if isinstance(inferer, ResizeInferer):
            # MONAI would take and give back metadata, of one tensor only; this inferer's networks get none, and it may
            # return a dictionary
            self._ahead.compile = False
        self._stop = Event()
        self.add_event_handler(IterationEvents.FORWARD_COMPLETED, _spread)

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """
        Run over all batches.

        Args:
            global_epoch: number of the epoch, for logs. Defaults to 1.
        """
        self._stop.clear()
        self._ahead.network = self.network
        loader = self.data_loader
        self.data_loader = cases = one_ahead(map(self._infer, one_ahead(iter(loader), self._stop)), self._stop)
        try:
            super().run(global_epoch)
        finally:
            cases.close()
            self.data_loader = loader

    def _infer(self, batchdata: dict[str, Any]) -> dict[str, Any]:
        """Run the network on a batch that was read: the batch with the output."""
        output = self._ahead._iteration(self._ahead, batchdata)
        self._ahead.state.output = None  # whoever takes it decides how long it is in memory
        return {**batchdata, OUTPUT: output}

    def _until_stopped(self, inputs: torch.Tensor, network: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        """The inferer, on networks that end when nobody waits for the result any more."""
        return self.inferer(inputs, self._stoppable(network), *args, **kwargs)

    def _stoppable(self, network: torch.nn.Module) -> Any:
        def run(member: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
            if self._stop.is_set():
                raise CancelledError
            return member(*args, **kwargs)

        if isinstance(network, torch.nn.ModuleList):
            return [partial(run, member) for member in network]
        return partial(run, network)

    def _iteration(self, engine: SupervisedEvaluator, batchdata: dict[str, Any]) -> Any:
        engine.state.output = batchdata.pop(OUTPUT)
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output


def one_ahead(items: Iterator[Any], stop: Event) -> Generator[Any, None, None]:
    """
    Draw from an iterator in a thread of its own, one item ahead of who takes them.

    An error of the iterator is raised in its turn; that of a ``monai.data.ThreadBuffer`` ends it as if nothing more had
    come, and cases would be missing without a word.

    Args:
        items: what to draw from.
        stop: set when nobody takes items any more, before the one that is being drawn is waited for.

    Yields:
        the items, in their order.
    """
    with ThreadPoolExecutor(1) as thread:
        try:
            following = thread.submit(next, items, _END)
            while (item := following.result()) is not _END:
                following = thread.submit(next, items, _END)
                yield item
        except BaseException:
            stop.set()
            raise


def _spread(engine: SupervisedEvaluator) -> None:
    """Put what an inferer returned in a dictionary beside the image."""
    output = engine.state.output
    if isinstance(output["pred"], Mapping):
        output.update(output.pop("pred"))
