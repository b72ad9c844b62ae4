# SPDX-License-Identifier: Apache-2.0
"""How sure a mean over few cases is: intervals by resampling the cases."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["bootstrap_interval", "case_means"]


def bootstrap_interval(
    cases: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray] | None = None,
    confidence_level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Percentile bootstrap interval of a statistic over cases.

    As many cases as there are, are drawn with replacement, again and again; the interval holds the middle share of the
    statistic's values. The same seed draws the same cases, whatever is computed of them. It tells how much the result
    depends on which cases were at hand, not on the seed of the training. Below some 20 cases it is too narrow.

    Args:
        cases: values with one row for each case, ``(N, ...)``.
        statistic: called with resampled ``cases``, gives an array of fixed shape; where it gives NaN the resample does
            not count. Defaults to None: :py:func:`case_means`, and no interval for a column with fewer than two values.
        confidence_level: share of the statistic's values inside of the interval, above 0 and below 1. Defaults to 0.95.
        n_resamples: how often to draw. Defaults to 2000.
        seed: of the draws. Defaults to 0.

    Returns:
        lower and upper ends, in the shape of the statistic; NaN where there is no interval, as for a single case.

    Raises:
        ValueError: when ``confidence_level`` is not between 0 and 1, or ``n_resamples`` is not positive.
    """
    if not 0 < confidence_level < 1 or n_resamples < 1:
        raise ValueError(
            f"expected a confidence_level between 0 and 1 and at least one resample, got {confidence_level} and "
            f"{n_resamples}."
        )
    compute = statistic or case_means
    generator = np.random.default_rng(seed)
    draws = generator.integers(len(cases), size=(n_resamples, len(cases)))
    values = np.stack([compute(cases[draw]) for draw in draws])
    without = np.isnan(values).all(axis=0) | (len(cases) < 2)
    if statistic is None:
        without = without | ((~np.isnan(cases)).sum(axis=0) < 2)
    tail = (1 - confidence_level) / 2
    # a column without an interval gets any number here, since numpy warns of one that is NaN throughout
    low, high = np.nanquantile(np.where(without, 0.0, values), (tail, 1 - tail), axis=0)
    return np.where(without, np.nan, low), np.where(without, np.nan, high)


def case_means(cases: np.ndarray) -> np.ndarray:
    """
    Args:
        cases: values with one row for each case, ``(N, ...)``.

    Returns:
        mean over the cases that have a value; NaN where none has, without numpy's warning, ``(...)``.
    """
    valid = ~np.isnan(cases)
    sums = np.where(valid, cases, 0.0).sum(axis=0)
    return np.divide(sums, valid.sum(axis=0), out=np.full_like(sums, np.nan), where=valid.any(axis=0))
