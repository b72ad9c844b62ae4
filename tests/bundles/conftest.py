# SPDX-License-Identifier: Apache-2.0
"""The bundles, small data sets for them, and a network of each that has seen a few steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bundle_runs import BUNDLES, network_inputs, read, run, train

from monai_sam2adapter import data


def write_volumes(folder: Path) -> None:
    """Volumes with a datalist of the form that MONAI and the Medical Segmentation Decathlon have."""
    data.write_acdc_phantom(folder, num_train=1, num_val=1, num_test=1, progress=False)
    content: dict[str, Any] = {"modality": {"0": "MR"}, "labels": dict(map(reversed, enumerate(data.ACDC_CLASS_NAMES)))}
    for name, part in (("training", "train"), ("validation", "val"), ("testing", "test")):
        content[name] = [
            {key: str(Path(frame[key]).relative_to(folder)) for key in ("image", "label")}
            for frame in data.acdc_datalist(folder, part)
        ]
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


# by the first word of a bundle's name: a function that writes a small data set of its kind into a folder
PHANTOMS: dict[str, Callable[[Path], object]] = {
    "acdc": partial(data.write_acdc_phantom, num_train=1, num_val=1, num_test=1, progress=False),
    "isbi2012": partial(data.write_isbi2012_phantom, num_slices=6, progress=False),
    "kvasir": partial(data.write_kvasir_phantom, num_images=6, progress=False),
    "picture": partial(data.write_kvasir_phantom, num_images=6, progress=False),
    "sam2": partial(data.write_pair_phantom, num_train=2, num_val=1, num_test=1, progress=False),
    "synapse": partial(data.write_synapse_phantom, num_train=1, num_val=1, num_test=1, progress=False),
    "volume": write_volumes,
}
# by the name of a bundle whose network is larger than SAM 2's tiny one, or has more than it: what makes it small
SMALLEST: dict[str, dict[str, Any]] = {
    "sam2_unext_segmentation": {"variant": "tiny", "dino_variant": "small", "dino_size": 28},
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """
    A test that takes ``bundle`` runs once for each folder in bundles/; where its file names ``FAST_BUNDLES``, the
    others are slow: they share what is tested with these.
    """
    if "bundle" in metafunc.fixturenames:
        folders = sorted(path.parent for path in BUNDLES.glob("*/configs") if path.parent.name != "_templates")
        fast = getattr(metafunc.module, "FAST_BUNDLES", {path.name for path in folders})
        values = [
            pytest.param(path, id=path.name, marks=() if path.name in fast else pytest.mark.slow) for path in folders
        ]
        metafunc.parametrize("bundle", values, scope="session")


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


@pytest.fixture(scope="session")
def options(bundle: Path, dataset_dir: Path, smallest: dict[str, Any]) -> dict[str, Any]:
    """Options of training and evaluation; the crop must fit into the image where the bundle crops."""
    crop = {"crop_size": 32} if "crop_size" in read(bundle, "train") else {}
    return {"dataset_dir": str(dataset_dir), "num_workers": 0, "cache_rate": 1.0, **smallest, **crop}


@pytest.fixture(scope="session")
def training(bundle: Path, options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[type]]:
    """The folder of a training of two steps and one validation, and the types of what its network was called with."""
    models = tmp_path_factory.mktemp("models")
    with network_inputs() as types:
        train(bundle, output_dir=models, **{**options, "train#trainer#epoch_length": 2})
    return models, types


@pytest.fixture(scope="session")
def trained(training: tuple[Path, set[type]]) -> Path:
    """The ``model.pt`` of this training."""
    return training[0] / "model.pt"


@pytest.fixture(scope="session")
def evaluated(bundle: Path, options: dict[str, Any], trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the evaluation of this network writes."""
    results = tmp_path_factory.mktemp("eval")
    run(bundle, "evaluating", "train", "evaluate", checkpoint_file=trained, output_dir=results, **options)
    return results
