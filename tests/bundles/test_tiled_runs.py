# SPDX-License-Identifier: Apache-2.0
"""Bundles with ``tile``: images keep their size, and the network sees windows of it alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import nibabel as nib
import numpy as np
import pytest
import tifffile
import torch
from bundle_runs import BUNDLES, SHORT, fails_with, parse, read, run
from monai.inferers import SlidingWindowInferer
from PIL import Image
from torch.nn.modules.module import register_module_forward_pre_hook

from monai_sam2adapter.networks.nets import AdaptedSAM2

FAST_BUNDLES = {"picture_segmentation", "volume_segmentation"}
PICTURES = BUNDLES / "picture_segmentation"
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


class TestPicturesInParts:
    """Pictures of more than ``max_pixels``."""

    MAPS: ClassVar = {"save_probabilities": True, "save_uncertainty": True}

    @pytest.fixture
    def predict(self, tmp_path: Path) -> Callable[..., Path]:
        """Run the bundle for anyone's pictures by a network of random weights on two pictures, of two formats."""
        weights, images = tmp_path / "model.pt", tmp_path / "in"
        torch.manual_seed(0)
        torch.save(parse(PICTURES, "inference").get_parsed_content("network_def").state_dict(), weights)
        description = read(PICTURES, "inference")["default_description"]
        weights.with_name("dataset.json").write_text(json.dumps(description), encoding="utf-8")
        write_image(PICTURES, images)
        with Image.open(images / "a.png") as picture:
            pixels = np.asarray(picture)
        tiles = {"tile": (32, 16), "compression": "zlib", "bigtiff": True}
        tifffile.imwrite(images / "b.tif", pixels, photometric="rgb", **tiles)

        def predict(name: str, **options: Any) -> Path:
            paths = {"dataset_dir": str(images), "checkpoint_file": weights, "output_dir": tmp_path / name}
            run(PICTURES, "inference", "inference", **{**paths, **TILED, **options})
            return tmp_path / name

        return predict

    def test_results_are_those_of_the_whole_picture_and_can_be_skipped(self, predict: Callable[..., Path]) -> None:
        whole = predict("whole", **self.MAPS, tta_flips=[[0]])
        parts = predict("parts", **self.MAPS, tta_flips=[[0]], max_pixels=3499)
        names = [f"{case}_{kind}.tif" for case in "ab" for kind in ("probabilities", "seg", "uncertainty")]
        assert sorted(path.name for path in parts.glob("[!.]*.*")) == names
        for case in "ab":
            with Image.open(whole / f"{case}_seg.png") as expected, Image.open(parts / f"{case}_seg.tif") as found:
                assert (found.mode, found.size) == ("P", (70, 50))
                used = 3 * len(np.unique(expected))
                assert found.getpalette()[3:used] == expected.getpalette()[3:used]
                assert (np.asarray(found) != np.asarray(expected)).mean() < 1e-3
            for kind in ("probabilities", "uncertainty"):
                values = [tifffile.imread(folder / f"{case}_{kind}.tif") for folder in (whole, parts)]
                np.testing.assert_allclose(*values, atol=1e-5)
            with Image.open(parts / "overlays" / f"{case}.png") as drawn:
                assert min(drawn.size) > 100
        before = (parts / "a_seg.tif").stat().st_mtime_ns
        predict("parts", **self.MAPS, max_pixels=3499, skip_existing=True)
        assert (parts / "a_seg.tif").stat().st_mtime_ns == before

    def test_by_default_no_picture_of_this_size_is_read_in_parts(self, predict: Callable[..., Path]) -> None:
        assert sorted(path.name for path in predict("out", max_pixels=3500).glob("*_seg.*")) == [
            "a_seg.png",
            "b_seg.png",
        ]

    def test_without_tile_such_a_picture_is_refused_as_before(self, predict: Callable[..., Path]) -> None:
        with fails_with("all cases failed", "more than max_pixels, 3499"):
            predict("out", tile="$None", max_pixels=3499)

    def test_what_looks_at_the_whole_result_is_refused_and_leaves_nothing(
        self, predict: Callable[..., Path], tmp_path: Path
    ) -> None:
        with fails_with("all cases failed", "largest_component looks at the whole result"):
            predict("out", largest_component=True, max_pixels=3499)
        assert not list((tmp_path / "out").glob("[!.]*.*"))

    def test_a_foreign_file_is_not_replaced(self, predict: Callable[..., Path], tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "b_seg.tif").write_text("mine", encoding="utf-8")
        with fails_with("results would replace 1 files that no run has written"):
            predict("out", max_pixels=3499)
        assert (tmp_path / "out" / "b_seg.tif").read_text(encoding="utf-8") == "mine"

    def test_a_damaged_picture_is_a_failed_case_without_half_a_result(
        self, predict: Callable[..., Path], tmp_path: Path
    ) -> None:
        path = tmp_path / "in" / "b.tif"
        with tifffile.TiffFile(path) as tiff:
            place = tiff.pages[0].dataoffsets[-1]  # type: ignore[union-attr]
        content = bytearray(path.read_bytes())
        content[place : place + 20] = b"x" * 20
        path.write_bytes(content)
        with fails_with("1 of 2 cases failed, 1 are done:", "b.tif cannot be read: rows "):
            predict("out", **self.MAPS, max_pixels=3499)
        assert sorted(path.name[:1] for path in (tmp_path / "out").glob("[!.]*.*")) == ["a"] * 3
