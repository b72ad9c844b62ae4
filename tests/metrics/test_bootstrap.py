# SPDX-License-Identifier: Apache-2.0
"""Bootstrap intervals against scipy's and against what they are for: to hold the true mean as often as they say."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats

from monai_sam2adapter.metrics import bootstrap_interval, case_means

NAN = np.nan


def test_equals_scipy_up_to_the_draws() -> None:
    scores = np.random.default_rng(1).beta(5, 2, size=(40, 2))
    low, high = bootstrap_interval(scores, n_resamples=10000)
    for column in range(2):
        reference = stats.bootstrap((scores[:, column],), np.mean, method="percentile", n_resamples=10000, rng=0)
        width = reference.confidence_interval.high - reference.confidence_interval.low
        assert low[column] == pytest.approx(reference.confidence_interval.low, abs=0.03 * width)
        assert high[column] == pytest.approx(reference.confidence_interval.high, abs=0.03 * width)


def test_holds_the_true_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        low, high = bootstrap_interval(generator.uniform(size=(30, 1)), n_resamples=300)
        hits += low[0] <= 0.5 <= high[0]
    assert 0.88 <= hits / 200 <= 0.98


def test_two_cases_by_hand() -> None:
    """Means of 0 and 1 are 0, 1/2 and 1 with chances of 1/4, 1/2 and 1/4."""
    low, high = bootstrap_interval(np.array([[0.0], [1.0]]), confidence_level=0.95)
    assert (low[0], high[0]) == (0, 1)
    low, high = bootstrap_interval(np.array([[0.0], [1.0]]), confidence_level=0.3)
    assert (low[0], high[0]) == (0.5, 0.5)


def test_cases_without_a_value_count_in_no_mean_and_too_few_give_no_interval() -> None:
    scores = np.array([[0.2, 0.5, NAN], [0.6, NAN, NAN], [NAN, NAN, NAN], [0.4, NAN, NAN]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        low, high = bootstrap_interval(scores)
        mean_low, mean_high = bootstrap_interval(scores, lambda drawn: case_means(case_means(drawn)))
    assert 0.2 <= low[0] < 0.4 < high[0] <= 0.6
    assert np.isnan([low[1:], high[1:]]).all()
    assert mean_low.shape == ()
    assert 0.2 <= mean_low < mean_high <= 0.6
    for statistic in (None, case_means, np.max):
        assert np.isnan(bootstrap_interval(scores[:1], statistic)).all()


def test_is_the_same_for_the_same_seed_and_draws_the_same_cases_for_all() -> None:
    scores = np.random.default_rng(2).normal(size=(15, 1))
    first = bootstrap_interval(scores)
    np.testing.assert_array_equal(first, bootstrap_interval(scores))
    assert (np.array(first) != np.array(bootstrap_interval(scores, seed=1))).all()
    np.testing.assert_allclose(first, np.array(bootstrap_interval(scores + 3)) - 3)


def test_statistic_over_arrays_for_each_case() -> None:
    matrices = np.random.default_rng(3).integers(0, 9, size=(12, 2, 2))
    low, high = bootstrap_interval(matrices, lambda drawn: drawn.sum(axis=0)[0, 0] / drawn.sum())
    assert low < matrices[:, 0, 0].sum() / matrices.sum() < high


@pytest.mark.parametrize("arguments", [{"confidence_level": 95}, {"confidence_level": 0}, {"n_resamples": 0}])
def test_ill_arguments_are_refused(arguments) -> None:
    with pytest.raises(ValueError, match="confidence_level between 0 and 1 and at least one resample, got"):
        bootstrap_interval(np.zeros((3, 1)), **arguments)


def test_case_means_are_numpys_without_its_warning() -> None:
    scores = np.array([[0.2, NAN], [NAN, NAN], [0.6, NAN]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(case_means(scores), [0.4, NAN])
        np.testing.assert_allclose(case_means(scores.T), [0.2, NAN, 0.6])
