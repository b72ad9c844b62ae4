# SPDX-License-Identifier: Apache-2.0
"""Inference of every bundle on its kind of images; what is the same in all is tested in full on one of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import ACDC, BUNDLES, SMALL, config_of, fails_with, network_inputs, parse, read, run
from PIL import Image

from monai_sam2adapter.data import ISBI2012_CLASS_NAMES, LabelScheme

ISBI, SYNAPSE = BUNDLES / "isbi2012_membrane_segmentation", BUNDLES / "synapse_multiorgan_segmentation"
VOLUMES = BUNDLES / "volume_segmentation"
RAS = np.array([[1.5, 0, 0, -30], [0, 2.0, 0, -40], [0, 0, 8.0, 50], [0, 0, 0, 1]])


@pytest.fixture
def predict(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Path]:
    """Run a bundle with random weights for the options; returns the folder of results."""
    smallest = request.getfixturevalue("smallest") if "bundle" in request.fixturenames else {}

    def predict(bundle: Path, source: Any, name: str = "out", weights: Path | None = None, **options: Any) -> Path:
        options = {**smallest, **options}
        if weights is None:
            weights = tmp_path / "model.pt"
            torch.manual_seed(0)
            network = parse(bundle, "inference", **options).get_parsed_content("network_def")
            torch.save(network.state_dict(), weights)
            description = read(bundle, "inference").get("default_description", {})
            weights.with_name("dataset.json").write_text(json.dumps(description), encoding="utf-8")
        paths = {"dataset_dir": str(source), "output_dir": tmp_path / name, "checkpoint_file": weights}
        run(bundle, "inference", "inference", **options, **paths)
        return tmp_path / name

    return predict


def draw(*size: int) -> np.ndarray:
    """Smooth values from -200 to 400, in Hounsfield units or else."""
    values = np.random.default_rng(0).normal(size=size).cumsum(0).cumsum(1)
    return ((values - values.min()) / np.ptp(values) * 600 - 200).astype(np.float32)


def write_images(bundle: Path, folder: Path) -> list[str]:
    """Two images of the kind that a bundle takes; returns the cases."""
    folder.mkdir()
    for number, case in enumerate("ab"):
        if writes_pictures(bundle):
            pixels = (draw(36, 40 + number, 3) / 600 * 255 + 85).astype(np.uint8)
            Image.fromarray(pixels).convert("L" if bundle == ISBI else "RGB").save(folder / f"{case}.png")
        else:
            nib.save(nib.Nifti1Image(draw(40 + number, 36, 3), RAS), folder / f"{case}.nii.gz")
    return ["a", "b"]


def writes_pictures(bundle: Path) -> bool:
    return read(bundle, "inference")["output_format"] == "png"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("[!.]*") if path.is_file())


class TestEveryBundle:
    def test_segments_images_and_adds_maps_to_what_is_there(
        self, bundle: Path, predict: Callable[..., Path], tmp_path: Path
    ) -> None:
        cases = write_images(bundle, tmp_path / "in")
        labels, maps = ("png", "tif") if writes_pictures(bundle) else ("nii.gz", "nii.gz")
        with network_inputs() as types:
            out = predict(bundle, tmp_path / "in")
        assert types == {torch.Tensor}
        assert names(out) == [f"{case}_seg.{labels}" for case in cases]
        assert len(names(out / "overlays")) == 2
        predict(bundle, tmp_path / "in", save_uncertainty=True, skip_existing=True)
        assert names(out) == [f"{case}_{kind}" for case in cases for kind in (f"seg.{labels}", f"uncertainty.{maps}")]
        before = [(out / name).stat().st_mtime_ns for name in names(out)]
        predict(bundle, tmp_path / "in", save_uncertainty=True, skip_existing=True)
        assert [(out / name).stat().st_mtime_ns for name in names(out)] == before
        if writes_pictures(bundle):
            with Image.open(out / "b_seg.png") as found:
                size, values = found.size, np.asarray(found)
        else:
            found = nib.load(out / "b_seg.nii.gz")
            size, values = found.shape, np.asarray(found.dataobj)
        assert size == ((41, 36) if writes_pictures(bundle) else (41, 36, 3))
        assert values.max() <= len(LabelScheme.from_metadata(read(bundle, "metadata")).names)

    def test_a_format_of_the_other_kind_is_refused_before_the_work(
        self, bundle: Path, predict: Callable[..., Path], tmp_path: Path
    ) -> None:
        write_images(bundle, tmp_path / "in")
        wrong, kind = ("nii.gz", "volumes") if writes_pictures(bundle) else ("png", "pictures")
        with fails_with(f"output_format {wrong} is for {kind}, but the inputs are"):
            predict(bundle, tmp_path / "in", output_format=wrong)
        assert not (tmp_path / "out").exists()

    def test_a_missing_file_of_a_list_is_a_failed_case(
        self, bundle: Path, predict: Callable[..., Path], tmp_path: Path
    ) -> None:
        write_images(bundle, tmp_path / "in")
        image = next(path for path in (tmp_path / "in").iterdir() if path.name.startswith("b."))
        with fails_with("1 of 2 cases failed, 1 are done:\n  xb: ", "there is no such file or folder"):
            predict(bundle, [str(image.with_name(f"x{image.name}")), str(image)])
        assert [name.partition(".")[0] for name in names(tmp_path / "out")] == ["b_seg"]

    def test_runs_from_any_folder_and_names_classes_as_the_metadata_does(
        self,
        bundle: Path,
        smallest: dict[str, Any],
        predict: Callable[..., Path],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        write_images(bundle, tmp_path / "in")
        expected = predict(bundle, tmp_path / "in")
        monkeypatch.chdir(tmp_path)
        options = {"dataset_dir": "in", "output_dir": "elsewhere", "checkpoint_file": "model.pt"}
        monai.bundle.run("inference", config_file=config_of(bundle, "inference"), **{**SMALL, **smallest, **options})
        assert names(Path("elsewhere")) == names(expected)
        for name in [*names(expected), *(f"overlays/{name}" for name in names(expected / "overlays"))]:
            assert Path("elsewhere", name).read_bytes() == (expected / name).read_bytes(), name


class TestIsbi:
    def test_each_page_of_a_stack_becomes_a_picture_in_colors(
        self, predict: Callable[..., Path], tmp_path: Path
    ) -> None:
        pages = [Image.fromarray((draw(36, 40) * 0.3 + page * 10).astype(np.uint8)) for page in range(11)]
        pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
        out = predict(ISBI, tmp_path / "stack.tif")
        assert names(out) == [f"stack_page{page:02d}_seg.png" for page in range(11)]
        color = LabelScheme.from_metadata(read(ISBI, "metadata")).colors[0]
        with Image.open(out / "stack_page10_seg.png") as picture:
            assert (picture.mode, picture.size) == ("P", (40, 36))
            assert set(np.unique(picture)) <= set(range(len(ISBI2012_CLASS_NAMES)))
            assert picture.getpalette()[3:6] == list(color)


@pytest.mark.parametrize("bundle_of_volumes", [SYNAPSE, ACDC, VOLUMES], ids=lambda path: path.name)
def test_labels_are_the_same_however_a_scan_is_stored(
    bundle_of_volumes: Path, predict: Callable[..., Path], tmp_path: Path
) -> None:
    """With an orientation in the header, without one, and with that of a program that knows of none."""
    voxels = draw(40, 36, 5)
    (tmp_path / "in").mkdir()
    orders = [(0, 1, 2), (2, 0, 1), (0, 2, 1), (2, 1, 0)]
    for order in orders:
        stored = np.ascontiguousarray(voxels.transpose(order))
        name = "".join(map(str, order))
        nib.save(nib.Nifti1Image(stored[::-1], RAS[:, [*order, 3]] * [-1, 1, 1, 1]), tmp_path / f"in/stated{name}.nii")
        if order[-1] != 0:  # in which order the other axes are, the spacing does not tell
            spacing = np.diag(np.append(np.diag(RAS)[list(order)], 1))
            nib.save(nib.Nifti1Image(stored, spacing), tmp_path / f"in/default{name}.nii")
            silent = nib.Nifti1Image(stored, spacing)
            silent.set_sform(spacing, 0)
            silent.set_qform(spacing, 0)
            nib.save(silent, tmp_path / f"in/silent{name}.nii")
    of_the_data = {"orientation": "LPS", "slices_by": "both"} if bundle_of_volumes == VOLUMES else {}
    out = predict(bundle_of_volumes, tmp_path / "in", **of_the_data)
    for path in (tmp_path / "in").iterdir():
        scan, found = nib.load(path), nib.load(out / f"{path.stem}_seg.nii.gz")
        np.testing.assert_allclose(found.affine, scan.affine, atol=1e-4)
        assert found.shape == scan.shape
        for code in ("qform_code", "sform_code"):
            assert found.header[code] == scan.header[code]
        order = [int(axis) for axis in path.stem[-3:]]
        step = -1 if "stated" in path.stem else 1
        expected = np.asarray(nib.load(out / f"{path.stem[:-3]}012_seg.nii.gz").dataobj)[::step]
        labels = np.asarray(found.dataobj)[::step].transpose(np.argsort(order))
        np.testing.assert_array_equal(labels, expected, path.stem)
        assert len(np.unique(expected)) > 1, "there is something to turn"
        with (
            Image.open(out / f"overlays/{path.stem}.png") as picture,
            Image.open(out / f"overlays/{path.stem[:-3]}012.png") as same,
        ):
            assert picture.size == same.size


class TestSynapse:
    @pytest.mark.parametrize("options", [{"num_classes": 14}, {"num_neighbors": 1}], ids=["14 classes", "2.5D"])
    def test_options_of_the_network(
        self, options: dict[str, Any], predict: Callable[..., Path], tmp_path: Path
    ) -> None:
        write_images(SYNAPSE, tmp_path / "in")
        out = predict(SYNAPSE, tmp_path / "in" / "a.nii.gz", save_probabilities=True, **options)
        assert nib.load(out / "a_seg.nii.gz").shape == (40, 36, 3)
        assert nib.load(out / "a_probabilities.nii.gz").shape == (40, 36, 3, options.get("num_classes", 9))

    def test_weights_for_neighbors_are_refused_without(self, predict: Callable[..., Path], tmp_path: Path) -> None:
        write_images(SYNAPSE, tmp_path / "in")
        predict(SYNAPSE, tmp_path / "in" / "a.nii.gz", num_neighbors=1)
        with fails_with("in_channels 3 (num_neighbors 1"):
            predict(SYNAPSE, tmp_path / "in" / "a.nii.gz", "without", tmp_path / "model.pt")
        assert not (tmp_path / "without").exists()
