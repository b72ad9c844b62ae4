# SPDX-License-Identifier: Apache-2.0
"""A small data set and cells on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monai_sam2adapter import data
from monai_sam2adapter.comparison import ComparisonCell

BUNDLES = Path(__file__).parents[2] / "bundles"
SMALL = {
    **{"image_size": 32, "batch_size": 4, "num_workers": 0, "epochs": 2, "sam2_checkpoint": "random", "device": "cpu"},
    "train#trainer#epoch_length": 1,
}


@pytest.fixture(scope="session")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms in the layout of ACDC, one patient in each part."""
    folder = tmp_path_factory.mktemp("hearts")
    data.write_acdc_phantom(folder, num_train=1, num_val=1, num_test=1, progress=False)
    return folder


@pytest.fixture
def make_cell(hearts: Path, tmp_path: Path) -> Callable[..., ComparisonCell]:
    """A cell on the phantoms, with a folder of its own; options are added to those that make it small."""

    def make(method: str = "lw", seed: int = 0, **arguments: Any) -> ComparisonCell:
        options = {**SMALL, "adapter": "none", **arguments.pop("options", {})}
        settings = {
            **{"dataset": "hearts", "bundle": str(BUNDLES / "acdc_cardiac_segmentation"), "dataset_dir": str(hearts)},
            **{"metric": "miou_pooled", "folder": str(tmp_path / "cells" / f"{method}_{seed}"), "epochs": 2},
        }
        return ComparisonCell(method=method, seed=seed, options=options, **{**settings, **arguments})

    return make
