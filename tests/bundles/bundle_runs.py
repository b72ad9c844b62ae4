# SPDX-License-Identifier: Apache-2.0
"""Reading and running bundles in tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import monai.bundle
import pytest
import torch
from monai.bundle import ConfigParser
from torch.nn.modules.module import register_module_forward_pre_hook

from monai_sam2adapter.networks.nets import AdaptedSAM2

BUNDLES = Path(__file__).parents[2] / "bundles"
ACDC = BUNDLES / "acdc_cardiac_segmentation"
# the smallest images and, without adapters, the smallest checkpoints: nothing here is about accuracy
SMALL = {"adapter": "none", "image_size": 32, "batch_size": 4, "device": "cpu"}
SHORT = {"sam2_checkpoint": "random", "epochs": 1, "learning_rate": 1e-3, "num_workers": 0}


def config_of(bundle: Path, *names: str) -> list[str]:
    return [str(bundle / "configs" / f"{name}.json") for name in names]


def read(bundle: Path, name: str) -> dict[str, Any]:
    return json.loads((bundle / "configs" / f"{name}.json").read_text(encoding="utf-8"))


def parse(bundle: Path, *names: str, **options: Any) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(config_of(bundle, *names))
    parser.update({**SMALL, "bundle_root": str(bundle), **options})
    return parser


def run(bundle: Path, run_id: str, *names: str, **options: Any) -> None:
    options = {**SMALL, "bundle_root": str(bundle), **options}
    options = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
    monai.bundle.run(run_id, config_file=config_of(bundle, *names), **options)


def train(bundle: Path, dataset_dir: Path, output_dir: Path, **options: Any) -> None:
    run(bundle, "training", "train", dataset_dir=dataset_dir, output_dir=output_dir, **{**SHORT, **options})


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True)


@contextmanager
def fails_with(*texts: str) -> Iterator[None]:
    """A run that fails, with all texts in one of the errors that MONAI wraps in others of its own."""
    with pytest.raises(RuntimeError) as caught:
        yield
    causes: list[str] = []
    error: BaseException | None = caught.value
    while error is not None:
        causes.append(str(error))
        error = error.__cause__
    assert any(all(text in cause for text in texts) for cause in causes), causes


@contextmanager
def network_inputs() -> Iterator[set[type]]:
    """The types of what networks are called with."""
    types: set[type] = set()

    def note(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, AdaptedSAM2):
            types.add(type(inputs[0]))

    hook = register_module_forward_pre_hook(note)
    try:
        yield types
    finally:
        hook.remove()
