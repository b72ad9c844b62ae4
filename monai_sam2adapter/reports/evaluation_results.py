# SPDX-License-Identifier: Apache-2.0
"""All numbers of an evaluation, from the scores of its cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..metrics import (
    METRIC_PROTOCOLS,
    MetricProtocol,
    PooledDiceMetric,
    PooledIoUMetric,
    bootstrap_interval,
    case_means,
)

__all__ = ["evaluation_results", "example_cases"]

_POOLED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "miou_pooled": PooledIoUMetric.score,
    "dice_pooled": PooledDiceMetric.score,
}
_POOLED_EACH = (
    "Classes overlap: one score for each from the voxels of all cases, and their mean. There is no background. n: "
    "cases that contain the class in prediction or truth."
)
_STATISTICS: dict[str, Callable[[np.ndarray], float]] = {
    "mean": np.mean,
    "std": np.std,
    "median": np.median,
    "min": np.min,
    "max": np.max,
}


def evaluation_results(
    cases: Sequence[str],
    class_names: Sequence[str],
    scores: Mapping[str, np.ndarray],
    confusions: np.ndarray | None = None,
    background_name: str = "background",
) -> dict[str, Any]:
    """
    Summarize the scores of all cases, with 95 % intervals over them.

    Args:
        cases: names of the ``N`` cases.
        class_names: names of the ``K`` scored classes.
        scores: by the name of the metric, NaN where there is nothing to score, ``(N, K)``.
        confusions: counts of the voxels of each case, truth in rows, ``(N, C, C)``, C either K or K and the background;
            of classes that overlap one for each, ``(N, K, 2, 2)``. Defaults to None: no pooled scores.
        background_name: what class 0 is called where only the confusions count it. Defaults to "background".

    Returns:
        lists, dictionaries, numbers and texts, NaN where there is no value:

        - ``cases`` and ``class_names`` as given;
        - ``metrics``: for each metric ``title``, ``protocol``, ``larger_is_better``, ``values`` (as ``scores``), and
          ``summary``: for each class and lastly for ``"mean"`` a dictionary of ``class, mean, ci95_low, ci95_high, std,
          median, min, max, n_valid``. ``std`` is that of the population. The last one averages the classes that have a
          value; its ``n_valid`` is the sum of theirs, its interval is that of the mean, over the resamples that hold
          every class, and its ``std`` to ``max`` are NaN;
        - ``pooled``: for ``miou_pooled`` and ``dice_pooled`` the same without ``values``, and only ``class, mean,
          ci95_low, ci95_high, n_valid`` in the summary, ``n_valid`` the number of cases that contain the class;
        - ``confusion_matrix``: ``class_names``, ``counts`` of all cases and ``case_counts`` of each, or None. Of
          classes that overlap there is one matrix for each.

    Raises:
        ValueError: when shapes and names do not fit.
    """
    for name, values in scores.items():
        if values.shape != (len(cases), len(class_names)):
            raise ValueError(
                f"metric {name} has values of shape {values.shape}, expected {len(cases)} cases x {len(class_names)} "
                f"classes; class_names must name the scored classes, got {list(class_names)}."
            )
    results: dict[str, Any] = {"cases": list(cases), "class_names": list(class_names), "metrics": {}, "pooled": {}}
    for name, values in scores.items():
        results["metrics"][name] = _describe(name, _summarize(values, class_names)) | {"values": values.tolist()}
    results["confusion_matrix"] = None
    if confusions is not None:
        is_each = confusions.ndim == 4
        names = list(class_names) if is_each else _confusion_names(class_names, confusions.shape[-1], background_name)
        counts = {"counts": confusions.sum(axis=0).tolist(), "case_counts": confusions.tolist()}
        results["confusion_matrix"] = {"class_names": names, **counts}
        for name, score in _POOLED.items():
            results["pooled"][name] = _describe(name, _summarize_pooled(confusions, names, score))
            if is_each:
                results["pooled"][name]["protocol"] = _POOLED_EACH
    return results


def example_cases(scores: Mapping[str, np.ndarray]) -> dict[int, str]:
    """
    Choose the worst, the median and the best case by their mean over the classes in the first metric.

    Args:
        scores: by the name of the metric, ``(N, K)``, N the same for all.

    Returns:
        what it is an example of by the number of the case; fewer than three when there are fewer cases with a value.
    """
    name = next(iter(scores), None)
    if name is None:
        return {}
    means = case_means(scores[name].T)
    order = [index for index in np.argsort(means, kind="stable").tolist() if not np.isnan(means[index])]
    if not order:
        return {}
    if not _protocol(name).larger_is_better:
        order.reverse()
    chosen: dict[int, str] = {}
    for label, index in (("worst", order[0]), ("median", order[(len(order) - 1) // 2]), ("best", order[-1])):
        chosen[index] = f"{chosen[index]} and {label}" if index in chosen else label
    return chosen


def _protocol(name: str) -> MetricProtocol:
    return METRIC_PROTOCOLS.get(name, MetricProtocol(name, "No protocol is on record under this name."))


def _describe(name: str, summary: list[dict[str, Any]]) -> dict[str, Any]:
    protocol = _protocol(name)
    return {
        "title": protocol.title,
        "protocol": protocol.text,
        "larger_is_better": protocol.larger_is_better,
        "summary": summary,
    }


def _summarize(values: np.ndarray, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each class and one for their mean."""
    table = []
    for column in values.T:
        valid = column[~np.isnan(column)]
        table.append([function(valid) if len(valid) else np.nan for function in _STATISTICS.values()])
    # a spread or an extreme of the classes' mean is nothing that any case has
    table.append([float(case_means(np.array(table))[0]), *[np.nan] * (len(_STATISTICS) - 1)])
    counts = (~np.isnan(values)).sum(axis=0)
    low, high = bootstrap_interval(values)
    # a resample without a class that others have would average other classes: the plain mean makes NaN of it
    mean_ends = bootstrap_interval(values[:, counts > 0], lambda drawn: case_means(drawn).mean())
    if not (counts > 1).any():  # the mean of classes without an interval has none
        mean_ends = (np.array(np.nan), np.array(np.nan))
    return [
        {"class": name, "mean": float(row[0]), "ci95_low": float(ends[0]), "ci95_high": float(ends[1])}
        | {statistic: float(number) for statistic, number in zip(list(_STATISTICS)[1:], row[1:], strict=True)}
        | {"n_valid": int(count)}
        for name, row, ends, count in zip(
            [*class_names, "mean"],
            table,
            [*zip(low, high, strict=True), mean_ends],
            [*counts, counts.sum()],
            strict=True,
        )
    ]


def _summarize_pooled(
    confusions: np.ndarray, class_names: Sequence[str], score: Callable[[torch.Tensor], torch.Tensor]
) -> list[dict[str, Any]]:
    """A row for each class and one for their mean."""

    def scores_and_mean(drawn: np.ndarray) -> np.ndarray:
        scores = score(torch.from_numpy(drawn.sum(axis=0)))
        return torch.cat([scores, scores.nanmean()[None]]).numpy()

    if confusions.ndim == 4:
        contained = confusions[:, :, 1].sum(axis=-1) + confusions[:, :, :, 1].sum(axis=-1) > 0
    else:
        contained = (confusions.sum(axis=1) + confusions.sum(axis=2)) > 0
    rows = zip(
        [*class_names, "mean"],
        scores_and_mean(confusions),
        *bootstrap_interval(confusions, scores_and_mean),
        [*contained.sum(axis=0), len(confusions)],
        strict=True,
    )
    return [
        {"class": name, "mean": float(mean), "ci95_low": float(low), "ci95_high": float(high), "n_valid": int(count)}
        for name, mean, low, high, count in rows
    ]


def _confusion_names(class_names: Sequence[str], n_channels: int, background_name: str) -> list[str]:
    if n_channels not in (len(class_names), len(class_names) + 1):
        raise ValueError(
            f"the confusion matrices have {n_channels} classes, expected {len(class_names) + 1}: background and those "
            f"of class_names, got {list(class_names)}."
        )
    return list(class_names) if n_channels == len(class_names) else [background_name, *class_names]
