# SPDX-License-Identifier: Apache-2.0
"""Score each case of an evaluation once, for all metrics together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ignite.engine import Engine, Events
from monai.data import decollate_batch

from ..metrics import ScoredCase, ScoredMap, create_metrics

__all__ = ["CaseScoresHandler"]


class CaseScoresHandler:
    """
    Key metric of an evaluator that brings others: a list of names in the place of an ``IgniteMetricHandler`` for each,
    and one scoring of a case in the place of as many.

    It leaves what those would: the means in ``engine.state.metrics`` and the scores of the cases in
    ``engine.state.metric_details``, by the names of the metrics; gathered over the processes, on all of them.

    Args:
        metrics: names, keys of :py:data:`monai_sam2adapter.metrics.METRIC_PROTOCOLS`.
        pred_key: key of the prediction in the engine's output, one-hot, ``(C, *spatial)``. Defaults to "pred".
        label_key: key of the truth, likewise. Defaults to "label".
        probabilities_key: key of the probabilities, ``(K, X, Y)``, for metrics that take them. Defaults to
            "probabilities".
        ignore_index: what marks voxels that do not count, see :py:class:`monai_sam2adapter.metrics.ScoredCase`.
            Defaults to None: all count.
        overlapping: whether a voxel may have several classes, or none, see there; all channels are scored then.
            Defaults to False.

    Raises:
        ValueError: when ``metrics`` is empty, holds a name twice or an unknown one.

    Example:
        >>> from monai_sam2adapter.handlers import CaseScoresHandler
        >>> key_val_metric = {"dice": CaseScoresHandler(["dice", "hd95_mm", "miou_pooled"])}
    """

    def __init__(
        self,
        metrics: Sequence[str],
        pred_key: str = "pred",
        label_key: str = "label",
        probabilities_key: str = "probabilities",
        ignore_index: int | None = None,
        overlapping: bool = False,
    ) -> None:
        self.metrics = create_metrics(metrics, ignore_index, overlapping)
        self.overlapping = overlapping
        self.ignore_index = ignore_index
        self.label_key = label_key
        self._pred_keys: dict[Any, str] = {ScoredCase: pred_key, ScoredMap: probabilities_key}

    def attach(self, engine: Engine, name: str | None = None) -> None:
        """
        Args:
            engine: evaluator with an output of dictionaries.
            name: of the evaluator's key metric, as MONAI's engines call it. Defaults to None: another one is the key.

        Raises:
            ValueError: when ``name`` is not one of the metrics.
        """
        if name is not None and name not in self.metrics:
            raise ValueError(
                f"the evaluator's metric is {name!r}, expected one of those scored: {', '.join(self.metrics)}; name it "
                "as one of them, or list it in metrics."
            )
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        for metric in self.metrics.values():
            metric.reset()

    def _score(self, engine: Engine) -> None:
        output = engine.state.output
        cases: Any = decollate_batch(output) if isinstance(output, Mapping) else output
        for case in cases:
            scored: dict[Any, Any] = {}
            for metric in self.metrics.values():
                kind = metric.case_type
                if kind not in scored:
                    pair = case[self._pred_keys[kind]], case[self.label_key]
                    scored[kind] = kind(*pair, self.ignore_index, self.overlapping)
                metric.append(metric.score_case(scored[kind]))

    def _finish(self, engine: Engine) -> None:
        state: Any = engine.state
        for name, metric in self.metrics.items():
            state.metrics[name] = metric.aggregate().item()
            state.metric_details[name] = metric.get_buffer()
