# SPDX-License-Identifier: Apache-2.0
"""Write what an evaluation found, per case and in summary."""

from __future__ import annotations

import io
import os
import pickle
import platform
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import monai
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import decollate_batch
from monai.utils import ensure_tuple
from PIL import Image

from .._version import __version__
from ..reports import (
    AGREEMENT_FILES,
    REPORT_FILES,
    evaluation_results,
    example_cases,
    format_results_text,
    get_case_names,
    get_case_sources,
    write_report,
)
from ..utils import escaping_logger, require_flags, require_own, require_writable, sha256_of_file
from ..visualize import output_planes
from .synchronizers import gather_lists

__all__ = ["CaseReportSaver"]

logger = escaping_logger(__name__)

_MAX_PICTURE_SIZE = (1200, 800)
_MAX_PLANE_SIZE = (512, 512)  # more than a panel of three in that size shows


class CaseReportSaver:
    """
    Write ``results.json``, ``cases.csv``, ``summary.csv`` and ``report.html`` after an evaluation, and log a table.

    - ``results.json``: ``title``, ``about`` (with date, versions and checkpoint) and all that
      :py:func:`monai_sam2adapter.reports.evaluation_results` gives. ``null`` stands for NaN.
    - ``cases.csv``: one row for each case and class: ``case,class,<metrics>``.
    - ``summary.csv``: one row for each metric and class: ``metric,class,mean,ci95_low,ci95_high,std,median,min,max,
      n_valid``, over the cases that have a value. The class ``mean`` averages the classes that have a value, as the key
      metric does; its ``std`` to ``max`` are ``nan``, as are those of pooled scores, which have one value for all.
    - ``patients.csv``, ``agreement.csv`` and ``bland_altman_MEASURE.png``, where there is an ``agreement``: one row for
      each measure and patient, ``patient,measure,unit,reference,predicted,difference``; one for each measure,
      ``measure,unit,n,bias,sd,limit_low,limit_high``; and a plot of each. ``results.json`` has them as ``agreement``.
    - ``report.html``: the same for the eye, in one file: tables, box plots, confusion matrix, pictures of the worst,
      the median and the best case by the first metric, and what each number means.

    ``nan`` stands for a structure that is in neither prediction nor truth: there is nothing to score. The numbers are
    those that :py:class:`CaseScoresHandler` or ``monai.handlers.IgniteMetricHandler(save_details=True)`` leaves in
    ``engine.state.metric_details``.

    In a run over several processes it must be attached on all of them, since names and pictures are gathered; only the
    first one writes and logs. A case that several processes got counts once, here but not in the metrics of the
    evaluator: ``monai.data.DistributedSampler`` repeats the first cases to give every process as many, unless it has
    ``even_divisible=False``. Cases are told apart by their ``"case"`` entry, else by the path of their image.

    What would be drawn of each case is kept in memory until the end, compressed: some 40 KB for a slice of
    256 x 256, at most 0.8 MB for a photograph. Only the cases that the page shows are drawn.

    Args:
        output_dir: folder of the files; made when missing.
        class_names: names of the scored classes, in the order of the channels, without background where the metrics
            leave it out.
        metrics: names of the metrics in the evaluator, also the names of the columns. One of
            :py:class:`monai_sam2adapter.metrics.PooledScores` brings pooled Dice and IoU and the confusion matrix.
            Defaults to ``("dice", "iou", "hd95_mm")``.
        image_key: key of the image in the batch, whose file name becomes the case name unless the batch has a
            ``"case"`` entry, and in the engine's output, to be drawn. Defaults to "image".
        pred_key: key of the prediction in the engine's output, to be drawn. Defaults to "pred".
        label_key: key of the truth in the engine's output, to be drawn. Defaults to "label".
        slice_axis: spatial axis of volumes that is cut into slices for pictures. Defaults to -1.
        title: headline of the report. Defaults to "Evaluation".
        about: what else to say of the run, such as data set and split, by its name. Defaults to nothing.
        checkpoint_file: the file of weights, or a list of those of an ensemble, to be named with its SHA-256. Defaults
            to None.
        background_name: what class 0 is called in pooled scores and confusion matrix. Defaults to "background".
        overwrite: whether to replace files that no run has written, or that were changed since. Defaults to False.
        agreement: what is measured of patients with several cases, such as
            :py:class:`monai_sam2adapter.reports.CardiacFunction`: called with names and scores of the cases, and
            ``metrics`` that it needs; without these there is none, as the log says. Defaults to None.
        overlapping: whether a voxel may have several classes, with a mask a channel. Defaults to False.

    Raises:
        ValueError: when ``class_names`` or ``metrics`` is empty, or holds a name twice.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        class_names: Sequence[str],
        metrics: Sequence[str] = ("dice", "iou", "hd95_mm"),
        image_key: str = "image",
        pred_key: str = "pred",
        label_key: str = "label",
        slice_axis: int = -1,
        title: str = "Evaluation",
        about: Mapping[str, Any] | None = None,
        checkpoint_file: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        background_name: str = "background",
        overwrite: bool = False,
        agreement: Callable[..., dict[str, Any]] | None = None,
        overlapping: bool = False,
    ) -> None:
        for argument, names in (("class_names", class_names), ("metrics", metrics)):
            if not names or len(set(names)) < len(names):
                raise ValueError(f"{argument} must be a list of different names, got {list(names)}.")
        self.output_dir = Path(output_dir)
        self.class_names = list(class_names)
        self.metrics = list(metrics)
        self.image_key = image_key
        self.pred_key = pred_key
        self.label_key = label_key
        self.slice_axis = slice_axis
        self.title = title
        self.about = dict(about or {})
        self.checkpoint_file = checkpoint_file
        self.background_name = background_name
        self.overwrite = overwrite
        self.agreement = agreement
        self.overlapping = overlapping
        self._cases: list[tuple[str, str]] = []  # name and source, of this process
        self._planes: dict[str, bytes] = {}  # what to draw by source
        self._undrawn: list[str] = []  # name and error

    @staticmethod
    def check_output_dir(output_dir: str | os.PathLike[str], overwrite: bool = False) -> None:
        """
        Refuse a folder that the report cannot be written to; cheap, so that a bundle can call it before it loads any
        data.

        Args:
            output_dir: folder of the files.
            overwrite: whether any files there may be replaced. Defaults to False.

        Raises:
            FileExistsError: when there are files of these names that no run has written, unless ``overwrite``.
            OSError: when nothing can be written to the folder.
        """
        require_flags(overwrite=overwrite)
        if not overwrite:
            folder = Path(output_dir)
            require_own(path for pattern in (*REPORT_FILES, *AGREEMENT_FILES) for path in folder.glob(pattern))
        require_writable(output_dir)

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: evaluator whose metrics were attached before (those given to its constructor are).
        """
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def _start(self, engine: Engine) -> None:
        self._cases, self._planes, self._undrawn = [], {}, []

    def _collect(self, engine: Engine) -> None:
        names = get_case_names(engine.state.batch, self.image_key, first_index=len(self._cases))
        sources = get_case_sources(engine.state.batch, self.image_key)
        output = engine.state.output
        cases: Any = decollate_batch(output) if isinstance(output, Mapping) else output
        for name, source, case in zip(names, sources, cases, strict=True):
            # what has no source cannot be told from a case of another process, so it is never taken for one
            unique = source or f"{len(self._cases)} of process {idist.get_rank()}"
            self._cases.append((name, unique))
            try:
                keys = self.image_key, self.pred_key, self.label_key
                planes = output_planes(case, *keys, self.slice_axis, self.overlapping)
            except Exception as error:  # numbers without pictures are better than none
                self._undrawn.append(f"{name}: {error!r}")
                continue
            # one channel for each named class is one too many for the background: it has a name and no color
            has_background = len(case[self.pred_key]) == len(self.class_names) > 1 and not self.overlapping
            legend = self.class_names[has_background:]
            self._planes[unique] = zlib.compress(pickle.dumps((planes.fit(*_MAX_PLANE_SIZE), legend)), level=1)

    def _report(self, engine: Engine) -> None:
        cases, undrawn = _gather(self._cases), _gather(self._undrawn)
        kept = _kept(cases, may_repeat=idist.get_world_size() > 1)
        tables = {name: values[kept] for name, values in self._details(engine, len(cases)).items()}
        scores = {name: values for name, values in tables.items() if values.ndim == 2}
        names = _number_repeats([cases[index][0] for index in kept])
        examples = {cases[kept[index]][1]: f"{names[index]}: {what}" for index, what in example_cases(scores).items()}
        planes = dict(_gather([(source, self._planes[source]) for source in examples if source in self._planes]))
        if idist.get_rank() != 0:
            return
        if len(kept) < len(cases):
            logger.warning(
                "%d cases came more than once and count once in the report, but not in the evaluator's own metrics; "
                "give its DistributedSampler even_divisible=False.",
                len(cases) - len(kept),
            )
        confusions = next((values for values in tables.values() if values.ndim > 2), None)
        results = {
            "title": self.title,
            "about": self._about(),
            **evaluation_results(names, self.class_names, scores, confusions, self.background_name),
        }
        results |= self._agreement(names, scores)
        pictures = []
        for source, caption in examples.items():
            try:
                pictures += [(caption, _draw(planes[source]))] if source in planes else []
            except Exception as error:
                undrawn.append(f"{caption}: {error!r}")
        if undrawn:
            logger.warning("The report has no picture of %d cases, the first: %s", len(undrawn), undrawn[0])
        files = write_report(results, self.output_dir, pictures, self.overwrite)
        logger.info("\n".join([format_results_text(results), f"Written to {self.output_dir}: {', '.join(files)}"]))

    def _details(self, engine: Engine, n_cases: int) -> dict[str, np.ndarray]:
        """What each metric has kept of the cases, ``(cases, ...)``."""
        details = getattr(engine.state, "metric_details", {})
        missing = [name for name in self.metrics if details.get(name) is None]
        if missing:
            raise ValueError(
                f"the evaluator has no details of the metrics {missing}, only of {sorted(details)}; name its metrics "
                "in CaseReportSaver(metrics=...) and attach them with CaseScoresHandler or "
                "IgniteMetricHandler(save_details=True)."
            )
        tables = {name: details[name].cpu().numpy() for name in self.metrics}
        wrong = {name: len(values) for name, values in tables.items() if len(values) != n_cases}
        if wrong:
            raise ValueError(
                f"the metrics have scored {wrong} cases, expected {n_cases}; attach the report to them all."
            )
        return {name: values if values.ndim > 2 else values.astype(float) for name, values in tables.items()}

    def _agreement(self, names: Sequence[str], scores: Mapping[str, np.ndarray]) -> dict[str, Any]:
        needed: Sequence[str] = getattr(self.agreement, "metrics", ())
        missing = [name for name in needed if name not in scores]
        if missing:
            logger.warning("No agreement over the patients: it needs %s among the metrics.", " and ".join(missing))
        return {"agreement": self.agreement(names, scores)} if self.agreement and not missing else {}

    def _about(self) -> dict[str, Any]:
        about = {
            **self.about,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "versions": f"monai_sam2adapter {__version__}, monai {monai.__version__}, torch {torch.__version__}, "
            f"numpy {np.__version__}, Python {platform.python_version()}",
        }
        if self.checkpoint_file is not None:
            files = [Path(file) for file in ensure_tuple(self.checkpoint_file)]
            checksums = [f"SHA-256 {sha256_of_file(file)}" if file.is_file() else "not found" for file in files]
            members = [f"{file}, {checksum}" for file, checksum in zip(files, checksums, strict=True)]
            about["checkpoint"] = f"ensemble of {len(files)}: " * (len(files) > 1) + "; ".join(members)
        return {key: str(value) for key, value in about.items()}


def _draw(packed: bytes) -> bytes:
    """PNG file of what was kept of a case."""
    planes, class_names = pickle.loads(zlib.decompress(packed))
    picture = Image.fromarray(planes.draw(class_names))
    picture.thumbnail(_MAX_PICTURE_SIZE)
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return content.getvalue()


def _gather(items: list[Any]) -> list[Any]:
    """Items of all processes, in the order in which metrics gather their buffers: by rank."""
    return [item for part in gather_lists(items) for item in part]


def _kept(cases: Sequence[tuple[str, str]], may_repeat: bool) -> list[int]:
    """Numbers of the cases that count, sorted by name, so that a report does not depend on the number of processes."""
    order = sorted(range(len(cases)), key=lambda index: (*cases[index], index))
    if not may_repeat:
        return order
    return [index for n, index in enumerate(order) if n == 0 or cases[index] != cases[order[n - 1]]]


def _number_repeats(names: Sequence[str]) -> list[str]:
    """The second of several cases of one name gets "(2)", and so on."""
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return numbered
