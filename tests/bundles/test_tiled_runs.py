# SPDX-License-Identifier: Apache-2.0
"""Bundles with ``tile``: images keep their size, and the network sees windows of it alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from bundle_runs import SHORT, parse, read, run
from monai.inferers import SlidingWindowInferer
from PIL import Image
from torch.nn.modules.module import register_module_forward_pre_hook

from monai_sam2adapter.networks.nets import AdaptedSAM2

FAST_BUNDLES = {"picture_segmentation", "volume_segmentation"}
TILED = {"tile": 32, "overlap": 0.5, "batch_size": 4}


@contextmanager
def seen_shapes() -> Iterator[set[tuple[int, ...]]]:
    """Shapes of what networks are called with."""
    shapes: set[tuple[int, ...]] = set()

    def note(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, AdaptedSAM2):
            shapes.add(tuple(inputs[0].shape))

    hook = register_module_forward_pre_hook(note)
    try:
        yield shapes
    finally:
        hook.remove()


def write_image(bundle: Path, folder: Path) -> Path:
    """An image of 70 x 50 pixels, or a volume of three such slices."""
    folder.mkdir()
    values = np.random.default_rng(0).normal(size=(70, 50, 3)).cumsum(0).cumsum(1)
    values = (values - values.min()) / np.ptp(values)
    if read(bundle, "inference")["output_format"] == "png":
        picture = Image.fromarray((255 * values.transpose(1, 0, 2)).astype(np.uint8))
        gray = read(bundle, "train")["network_def"]["in_channels"] == 1
        picture.convert("L" if gray else "RGB").save(folder / "a.png")
    else:
        nib.save(
            nib.Nifti1Image((600 * values - 200).astype(np.float32), np.diag([-1.5, -1.5, 8, 1])), folder / "a.nii"
        )
    return folder


def read_labels(folder: Path) -> np.ndarray:
    (path,) = folder.glob("a_seg.*")
    if path.suffix != ".png":
        return np.asarray(nib.load(path).dataobj)
    with Image.open(path) as picture:
        return np.asarray(picture).T


def test_inference_is_that_of_monais_sliding_window(bundle: Path, smallest: dict[str, Any], tmp_path: Path) -> None:
    weights, images = tmp_path / "model.pt", write_image(bundle, tmp_path / "in")
    torch.manual_seed(0)
    parser = parse(bundle, "inference", **smallest)
    network = parser.get_parsed_content("network_def").eval()
    torch.save(network.state_dict(), weights)
    weights.with_name("dataset.json").write_text(
        json.dumps(read(bundle, "inference").get("default_description", {})), encoding="utf-8"
    )
    options = {"dataset_dir": str(images), "checkpoint_file": weights, **smallest, **TILED}
    with seen_shapes() as shapes:
        run(bundle, "inference", "inference", output_dir=tmp_path / "out", **options)
    assert {shape[2:] for shape in shapes} == {(32, 32)}
    assert max(shape[0] for shape in shapes) == 4
    parser = parse(bundle, "inference", checkpoint_file=str(weights), **smallest)
    item = parser.get_parsed_content("preprocessing")({"image": str(next(images.iterdir()))})
    planes = item["image"].as_tensor()
    planes = planes[None] if planes.ndim == 3 else planes.movedim(-1, 0)
    windows = SlidingWindowInferer(32, 1, 0.5, mode="gaussian")
    with torch.no_grad():
        logits = torch.cat([windows(plane[None], network) for plane in planes])
    expected = (logits.argmax(1) if logits.shape[1] > 1 else logits[:, 0] >= 0).numpy()
    found = read_labels(tmp_path / "out")
    found = found[None] if found.ndim == 2 else np.moveaxis(found, -1, 0)
    assert found.shape == expected.shape
    assert (found != expected).mean() < 1e-3  # equal but for the last bit of the sums
    assert len(np.unique(found)) > 1 or logits.shape[1] == 1


def test_training_and_its_validation_see_windows_of_the_tile_alone(
    bundle: Path, options: dict[str, Any], tmp_path: Path
) -> None:
    tile = [64, 64] if "crop_size" in options else [96, 64]  # its crops are turned, and so are square
    with seen_shapes() as shapes:
        run(
            bundle,
            *("training", "train"),
            **{**SHORT, **options, "tile": tile, "overlap": 0.1, "train#trainer#epoch_length": 2},
            output_dir=tmp_path / "models",
        )
    assert {shape[2:] for shape in shapes} == {tuple(tile)}
    assert (tmp_path / "models" / "model.pt").is_file()


def test_evaluation_runs_on_windows(bundle: Path, options: dict[str, Any], trained: Path, tmp_path: Path) -> None:
    with seen_shapes() as shapes:
        run(
            bundle,
            "evaluating",
            *("train", "evaluate"),
            **{**options, "tile": 64, "overlap": 0.1},
            checkpoint_file=trained,
            output_dir=tmp_path / "eval",
        )
    assert {shape[2:] for shape in shapes} == {(64, 64)}
    assert (tmp_path / "eval" / "report.html").is_file()
