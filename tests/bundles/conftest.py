# SPDX-License-Identifier: Apache-2.0
"""The bundles and small data sets for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from monai_sam2adapter import data

ROOT = Path(__file__).parents[2] / "bundles"
# by the first word of a bundle's name: a function that writes a small data set of its kind into a folder
PHANTOMS: dict[str, Callable[[Path], object]] = {
    "acdc": partial(data.write_acdc_phantom, num_train=1, num_val=1, num_test=1, progress=False),
    "isbi2012": partial(data.write_isbi2012_phantom, num_slices=6, progress=False),
    "kvasir": partial(data.write_kvasir_phantom, num_images=6, progress=False),
    "sam2": partial(data.write_pair_phantom, num_train=2, num_val=1, num_test=1, progress=False),
    "synapse": partial(data.write_synapse_phantom, num_train=1, num_val=1, num_test=1, progress=False),
}
# by the name of a bundle whose network is larger than SAM 2's tiny one, or has more than it: what makes it small
SMALLEST: dict[str, dict[str, Any]] = {
    "sam2_unext_segmentation": {"variant": "tiny", "dino_variant": "small", "dino_size": 28},
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``bundle`` runs once for each folder in bundles/."""
    if "bundle" in metafunc.fixturenames:
        folders = sorted(path for path in ROOT.iterdir() if (path / "configs").is_dir())
        metafunc.parametrize("bundle", folders, ids=[path.name for path in folders], scope="session")


@pytest.fixture(scope="session")
def smallest(bundle: Path) -> dict[str, Any]:
    """Options that the bundle needs besides those of all bundles to be small."""
    if bundle.name in SMALLEST:
        pytest.importorskip("timm", reason="timm is missing; install the extra 'unext'")
        pytest.importorskip("py_sod_metrics", reason="pysodmetrics is missing; install the extra 'sod'")
    return SMALLEST.get(bundle.name, {})


@pytest.fixture(scope="session")
def dataset_dir(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set in the layout that the bundle reads."""
    name = bundle.name.split("_")[0]
    if name not in PHANTOMS:
        pytest.fail(f"no phantom for {bundle.name}: add {name} to PHANTOMS in {__file__}")
    folder = tmp_path_factory.mktemp(name)
    PHANTOMS[name](folder)
    return folder
