# SPDX-License-Identifier: Apache-2.0
"""The estimate of the time left, by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from monai_sam2adapter.comparison import ComparisonCell
from monai_sam2adapter.comparison.time_left import estimate_seconds_left, format_seconds


def test_nothing_is_known_before_the_first_cell(make_cell: Callable[..., ComparisonCell]) -> None:
    assert estimate_seconds_left({}, [make_cell()], 1) is None


def test_cells_of_the_same_method_count_first_then_of_the_data_set_then_all(
    make_cell: Callable[..., ComparisonCell],
) -> None:
    finished = {
        make_cell("hp", 0): 10.0,
        make_cell("hp", 1): 30.0,
        make_cell("lw", 0): 100.0,
        make_cell("hp", 0, dataset="cells"): 1000.0,
    }
    assert estimate_seconds_left(finished, [make_cell("hp", 2)], 1) == 20
    assert estimate_seconds_left(finished, [make_cell("none", 0)], 1) == pytest.approx(140 / 3)
    assert estimate_seconds_left(finished, [make_cell("hp", 0, dataset="other")], 1) == 285


def test_several_run_at_a_time_and_what_was_spent_counts(make_cell: Callable[..., ComparisonCell]) -> None:
    finished = {make_cell("hp", 0): 10.0}
    left = [make_cell("hp", seed) for seed in range(1, 5)]
    assert estimate_seconds_left(finished, left, 2, spent=6) == 17
    assert estimate_seconds_left(finished, left[:1], 2, spent=6) == 4
    assert estimate_seconds_left(finished, left[:1], 2, spent=60) == 0
    assert estimate_seconds_left(finished, [], 2) == 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (65, "1 min 5 s"), (3599.7, "1 h 0 min"), (7380, "2 h 3 min")]
)
def test_format(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
