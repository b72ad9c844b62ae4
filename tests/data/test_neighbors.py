# SPDX-License-Identifier: Apache-2.0
"""Slices with their neighbors as channels: order, ends, copies."""

from __future__ import annotations

import pytest
import torch

from monai_sam2adapter.data import slices_with_neighbors

# slice k of two channels holds 10 k and 10 k + 1 at every pixel
SLICES = torch.tensor([[0, 1], [10, 11], [20, 21], [30, 31]])[:, :, None, None].expand(4, 2, 3, 5)


@pytest.mark.parametrize(
    ("start", "stop", "num_neighbors", "expected"),
    [
        pytest.param(1, 3, 0, [[10, 11], [20, 21]], id="none"),
        pytest.param(1, 2, 1, [[0, 1, 10, 11, 20, 21]], id="inside"),
        pytest.param(0, 1, 1, [[0, 1, 0, 1, 10, 11]], id="first"),
        pytest.param(3, 4, 2, [[10, 11, 20, 21, 30, 31, 30, 31, 30, 31]], id="last"),
        pytest.param(1, 2, 5, [[0, 1] * 5 + [10, 11] + [20, 21] + [30, 31] * 4], id="more-neighbors-than-slices"),
    ],
)
def test_channels_are_in_the_order_of_the_slices(start, stop, num_neighbors, expected) -> None:
    result = slices_with_neighbors(SLICES, start, stop, num_neighbors)
    assert result.shape == (stop - start, (2 * num_neighbors + 1) * 2, 3, 5)
    assert result[..., 0, 0].tolist() == result[..., 2, 4].tolist() == expected


@pytest.mark.parametrize("num_neighbors", [0, 1])
def test_the_result_is_a_copy_of_the_same_data_type(num_neighbors: int) -> None:
    slices = torch.ones(1, 1, 2, 2, dtype=torch.int16)
    result = slices_with_neighbors(slices, 0, 1, num_neighbors)
    assert result.dtype == torch.int16
    result.zero_()
    assert slices.all()
