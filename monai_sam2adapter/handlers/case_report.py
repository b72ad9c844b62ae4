# SPDX-License-Identifier: Apache-2.0
"""Write what an evaluation found, per case and in summary."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events
from monai.utils import string_list_all_gather

from .atomic_file import atomic_path
from .case_names import get_case_names

__all__ = ["CaseReportSaver"]

logger = logging.getLogger(__name__)

_STATISTICS: dict[str, Callable[[np.ndarray], float]] = {
    "mean": np.mean,
    "std": np.std,
    "median": np.median,
    "min": np.min,
    "max": np.max,
}


class CaseReportSaver:
    """
    Write ``cases.csv`` and ``summary.csv`` after an evaluation and log the summary as a table.

    - ``cases.csv``: one row for each case and class: ``case,class,<metrics>``.
    - ``summary.csv``: one row for each metric and class: ``metric,class,mean,std,median,min,max,n_valid``, over the
      cases that have a value; ``std`` is that of the population, ``n_valid`` the number of those cases. The class
      ``mean`` averages every column over the classes that have a value, so that its ``mean`` is the key metric of
      :py:class:`monai_sam2adapter.metrics.CaseScores`; its ``n_valid`` is the sum.

    ``nan`` stands for a structure that is in neither prediction nor truth: there is nothing to score. The numbers are
    those that ``monai.handlers.IgniteMetricHandler(save_details=True)`` leaves in ``engine.state.metric_details``.

    In a run over several processes it must be attached on all of them, since the case names are gathered; only the
    first one writes and logs.

    Args:
        output_dir: folder of the two files; made when missing.
        class_names: names of the scored classes, in the order of the channels, without background where the metrics
            leave it out.
        metrics: names of the metrics in the evaluator, also the names of the columns. Defaults to
            ``("dice", "iou", "hd95_mm")``.
        image_key: key of the image in the batch, whose file name becomes the case name unless the batch has a
            ``"case"`` entry. Defaults to "image".

    Raises:
        ValueError: when ``class_names`` or ``metrics`` is empty, or holds a name twice.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        class_names: Sequence[str],
        metrics: Sequence[str] = ("dice", "iou", "hd95_mm"),
        image_key: str = "image",
    ) -> None:
        for argument, names in (("class_names", class_names), ("metrics", metrics)):
            if not names or len(set(names)) < len(names):
                raise ValueError(f"{argument} must be a list of different names, got {list(names)}.")
        self.output_dir = Path(output_dir)
        self.class_names = list(class_names)
        self.metrics = list(metrics)
        self.image_key = image_key
        self._cases: list[str] = []

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: evaluator whose metrics were attached before (those given to its constructor are).
        """
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect_names)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def _start(self, engine: Engine) -> None:
        self._cases = []

    def _collect_names(self, engine: Engine) -> None:
        self._cases += get_case_names(engine.state.batch, self.image_key, first_index=len(self._cases))

    def _report(self, engine: Engine) -> None:
        # the metrics gather their buffers in the same order, by rank
        cases = string_list_all_gather(self._cases) if idist.get_world_size() > 1 else self._cases
        if idist.get_rank() != 0:
            return
        scores = self._scores(engine, len(cases))
        self._write("cases.csv", ["case", "class", *self.metrics], self._case_rows(cases, scores))
        summary = {name: self._summarize(values) for name, values in scores.items()}
        rows = [[metric, *row] for metric, table in summary.items() for row in table]
        self._write("summary.csv", ["metric", "class", *_STATISTICS, "n_valid"], rows)
        logger.info("%s", self._table(len(cases), summary))

    def _scores(self, engine: Engine, n_cases: int) -> dict[str, np.ndarray]:
        """Scores of each metric, ``(cases, classes)``, checked against the names."""
        details = getattr(engine.state, "metric_details", {})
        missing = [name for name in self.metrics if details.get(name) is None]
        if missing:
            raise ValueError(
                f"the evaluator has no details of the metrics {missing}, only of {sorted(details)}; name its metrics "
                "in CaseReportSaver(metrics=...) and attach them with IgniteMetricHandler(save_details=True)."
            )
        scores = {name: details[name].cpu().numpy().astype(float) for name in self.metrics}
        for name, values in scores.items():
            if values.shape != (n_cases, len(self.class_names)):
                raise ValueError(
                    f"metric {name} has values of shape {values.shape}, expected {n_cases} cases x "
                    f"{len(self.class_names)} classes; class_names must name the scored classes, got "
                    f"{self.class_names}."
                )
        return scores

    def _case_rows(self, cases: list[str], scores: dict[str, np.ndarray]) -> list[list[str]]:
        return [
            [case, class_name, *(f"{values[n, c]:.6f}" for values in scores.values())]
            for n, case in enumerate(cases)
            for c, class_name in enumerate(self.class_names)
        ]

    def _summarize(self, values: np.ndarray) -> list[list[str]]:
        """Rows of one metric, one for each class and their mean, as text."""
        table = []
        for column in values.T:
            valid = column[~np.isnan(column)]
            table.append([function(valid) if len(valid) else np.nan for function in _STATISTICS.values()])
        scored = [row for row in table if not np.isnan(row[0])]
        table.append(list(np.mean(scored, axis=0)) if scored else [np.nan] * len(_STATISTICS))
        counts = (~np.isnan(values)).sum(axis=0)
        return [
            [name, *(f"{number:.6f}" for number in row), str(count)]
            for name, row, count in zip([*self.class_names, "mean"], table, [*counts, counts.sum()], strict=True)
        ]

    def _write(self, filename: str, header: list[str], rows: list[list[str]]) -> None:
        with atomic_path(self.output_dir / filename) as temporary, open(temporary, "w", newline="") as file:
            csv.writer(file).writerows([header, *rows])

    def _table(self, n_cases: int, summary: dict[str, list[list[str]]]) -> str:
        """Aligned text: one line for each class, mean and standard deviation of each metric."""
        lines = [["class", *(f"{metric} (n)" for metric in summary)]]
        for index, class_name in enumerate([*self.class_names, "mean"]):
            rows = [table[index] for table in summary.values()]
            lines.append([class_name, *(f"{float(row[1]):.3f} +- {float(row[2]):.3f} ({row[-1]})" for row in rows)])
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        title = f"Evaluation of {n_cases} cases, mean +- standard deviation over the n that have a value:"
        return "\n".join([title, *text, f"Written to {self.output_dir}: cases.csv, summary.csv"])
