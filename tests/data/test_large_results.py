# SPDX-License-Identifier: Apache-2.0
"""Class numbers that are written band by band, as others read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from monai_sam2adapter.data.large_results import write_large_labels


@pytest.mark.parametrize("num_classes", [3, 255, 300])
def test_all_numbers_come_back(num_classes: int, tmp_path: Path) -> None:
    colors = [(number % 256, 0, 0) for number in range(1, num_classes + 1)]
    labels = torch.arange(300 * 310).reshape(1, 1, 300, 310) % (num_classes + 1)
    bands = ({"pred": labels[..., start : start + 100]} for start in range(0, 310, 100))
    write_large_labels(tmp_path / "seg.tif", (300, 310), bands, colors, maps={})
    found = tifffile.imread(tmp_path / "seg.tif")
    assert found.dtype == (np.uint8 if num_classes < 256 else np.uint16)
    np.testing.assert_array_equal(found, labels[0, 0].T)
