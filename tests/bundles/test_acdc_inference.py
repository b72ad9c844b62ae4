# SPDX-License-Identifier: Apache-2.0
"""Inference of the ACDC bundle: every kind of input, every option, and what happens when a case fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from bundle_runs import ACDC, SMALL, config_of, fails_with, parse, run
from scipy.ndimage import label as components
from scipy.special import xlogy

AFFINE = np.array([[-1.5, 0, 0, 30], [0, -2.0, 0, 40], [0, 0, 8.0, -50], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random ones, with all classes in what comes out."""
    torch.manual_seed(0)
    network = parse(ACDC, "inference").get_parsed_content("network_def")
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def predict(weights: Path) -> Callable[..., None]:
    def predict(source: Any, output_dir: Path, **options: Any) -> None:
        options = {"dataset_dir": source, "output_dir": output_dir, "checkpoint_file": weights, **options}
        run(ACDC, "inference", "inference", **options)

    return predict


def write_scan(path: Path, seed: int = 0, size: tuple[int, ...] = (40, 36, 3)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).normal(size=size).cumsum(0).cumsum(1).astype(np.float32)
    if path.name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(voxels, AFFINE), path)
        return path
    image = sitk.GetImageFromArray(voxels.transpose(2, 1, 0))
    image.SetSpacing((1.5, 2.0, 8.0))
    image.SetOrigin((-30, -40, -50))  # AFFINE in LPS coordinates
    sitk.WriteImage(image, str(path))
    return path


def files(folder: Path, pattern: str = "*.nii.gz") -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


class TestInputs:
    def test_every_kind_of_volume_gets_labels_in_its_place(self, predict: Callable[..., None], tmp_path: Path) -> None:
        for extension in ("nii.gz", "nii", "nrrd", "mha"):
            write_scan(tmp_path / "in" / f"scan.{extension}")
        predict(tmp_path / "in", tmp_path / "out")
        found = [nib.load(tmp_path / "out" / name) for name in files(tmp_path / "out")]
        assert files(tmp_path / "out") == [f"scan_{ext}_seg.nii.gz" for ext in ("mha", "nii_gz", "nii", "nrrd")]
        for image in found:
            assert image.shape == (40, 36, 3)
            assert image.get_data_dtype() == np.uint8
            np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
            np.testing.assert_array_equal(image.dataobj, found[0].dataobj)
        assert set(np.unique(found[0].dataobj)) <= {0, 1, 2, 3}
        assert len(files(tmp_path / "out" / "overlays", "*.png")) == 4

    def test_a_list_with_equal_names(self, predict: Callable[..., None], tmp_path: Path) -> None:
        scans = [str(write_scan(tmp_path / hospital / "scan.nii.gz")) for hospital in ("a", "b")]
        predict(str(scans), tmp_path / "out")  # as the command line gives it
        assert files(tmp_path / "out") == ["a_scan_seg.nii.gz", "b_scan_seg.nii.gz"]

    def test_a_datalist(self, predict: Callable[..., None], tmp_path: Path) -> None:
        for name in ("a", "b"):
            write_scan(tmp_path / f"{name}.nii.gz")
        (tmp_path / "list.json").write_text('{"training": [{"image": "a.nii.gz"}], "test": [{"image": "b.nii.gz"}]}')
        predict(tmp_path / "list.json", tmp_path / "out")
        predict(tmp_path / "list.json", tmp_path / "out2", datalist_key="training")
        assert files(tmp_path / "out") == ["b_seg.nii.gz"]
        assert files(tmp_path / "out2") == ["a_seg.nii.gz"]

    def test_several_dicom_series_as_nifti_and_as_dicom(
        self, predict: Callable[..., None], write_dicom: Callable[..., list[Path]], tmp_path: Path
    ) -> None:
        pytest.importorskip("highdicom")
        for number in (4, 5):
            positions = [[1, 2, 3.0 * n] for n in range(number)]
            write_dicom(tmp_path / "ct", positions, prefix=f"s{number}_", SeriesNumber=number)
        predict(tmp_path / "ct", tmp_path / "out")
        predict(tmp_path / "ct", tmp_path / "out", output_format="dicom_seg")
        for number in (4, 5):
            case = f"ct_{number}_Body_3_0_seg"
            volume = nib.load(tmp_path / "out" / f"{case}.nii.gz")
            np.testing.assert_allclose(
                volume.affine, [[-3, 0, 0, -1], [0, -2, 0, -2], [0, 0, 3, 0], [0, 0, 0, 1]], atol=1e-5
            )
            seg = pydicom.dcmread(tmp_path / "out" / f"{case}.dcm")
            assert [item.SegmentLabel for item in seg.SegmentSequence][2] == "left ventricle"
            voxels = sum(int((np.asarray(volume.dataobj) == item.SegmentNumber).sum()) for item in seg.SegmentSequence)
            assert int(seg.pixel_array.sum()) == voxels

    def test_a_real_dicom_series(self, predict: Callable[..., None], shared_data: Path, tmp_path: Path) -> None:
        predict(shared_data / "ct_sample" / "dicom", tmp_path / "out")
        image = nib.load(tmp_path / "out" / "dicom_seg.nii.gz")
        heads = [pydicom.dcmread(path, stop_before_pixels=True) for path in (shared_data / "ct_sample/dicom").iterdir()]
        lowest = min(heads, key=lambda head: head.ImagePositionPatient[2])
        assert image.shape == (512, 512, len(heads))
        np.testing.assert_allclose(
            image.affine[:3, 3], np.array(lowest.ImagePositionPatient, dtype=float) * [-1, -1, 1], atol=1e-4
        )


class TestOptions:
    def test_maps_fit_the_labels(self, predict: Callable[..., None], tmp_path: Path) -> None:
        scan = write_scan(tmp_path / "a.nii.gz")
        options = {"save_probabilities": True, "save_uncertainty": True, "tta_flips": [[0], [0, 1]]}
        predict(scan, tmp_path / "out", **options)
        predict(scan, tmp_path / "plain", save_probabilities=True)
        chance, plain = (nib.load(tmp_path / name / "a_probabilities.nii.gz") for name in ("out", "plain"))
        assert chance.shape == (40, 36, 3, 4)
        assert chance.get_data_dtype() == np.float32
        values = chance.get_fdata()
        np.testing.assert_allclose(values.sum(-1), 1, atol=1e-5)
        np.testing.assert_array_equal(values.argmax(-1), nib.load(tmp_path / "out" / "a_seg.nii.gz").dataobj)
        entropy = -xlogy(values, values).sum(-1) / np.log(4)
        np.testing.assert_allclose(nib.load(tmp_path / "out" / "a_uncertainty.nii.gz").get_fdata(), entropy, atol=1e-4)
        assert np.abs(values - plain.get_fdata()).max() > 1e-3, "flips change something"
        assert files(tmp_path / "plain") == ["a_probabilities.nii.gz", "a_seg.nii.gz"]

    def test_flips_average_what_mirrored_scans_give(self, predict: Callable[..., None], tmp_path: Path) -> None:
        scan = nib.load(write_scan(tmp_path / "in" / "a.nii.gz"))
        nib.save(nib.Nifti1Image(scan.get_fdata()[::-1], AFFINE), tmp_path / "in" / "b.nii.gz")
        predict(tmp_path / "in", tmp_path / "plain", save_probabilities=True)
        predict(tmp_path / "in" / "a.nii.gz", tmp_path / "tta", save_probabilities=True, tta_flips=[[0]])
        first, second = (nib.load(tmp_path / "plain" / f"{name}_probabilities.nii.gz").get_fdata() for name in "ab")
        found = nib.load(tmp_path / "tta" / "a_probabilities.nii.gz").get_fdata()
        np.testing.assert_allclose(found, (first + second[::-1]) / 2, atol=1e-4)

    def test_largest_component(self, predict: Callable[..., None], tmp_path: Path) -> None:
        scan = write_scan(tmp_path / "a.nii.gz", size=(64, 64, 2))
        predict(scan, tmp_path / "all")
        predict(scan, tmp_path / "one", largest_component=True)
        every, largest = (np.asarray(nib.load(tmp_path / name / "a_seg.nii.gz").dataobj) for name in ("all", "one"))
        full = np.ones((3, 3, 3))
        expected = np.zeros_like(every)
        numbers = []
        for value in (1, 2, 3):
            parts, number = components(every == value, full)
            numbers.append(number)
            if number:
                expected[parts == 1 + np.bincount(parts.ravel())[1:].argmax()] = value
        assert max(numbers) > 1, "there is something to remove"
        np.testing.assert_array_equal(largest, expected)

    def test_what_is_done_is_skipped_on_demand(self, predict: Callable[..., None], tmp_path: Path) -> None:
        for name in ("a", "b"):
            write_scan(tmp_path / "in" / f"{name}.nii.gz")
        predict(tmp_path / "in" / "a.nii.gz", tmp_path / "out")
        before = (tmp_path / "out" / "a_seg.nii.gz").stat().st_mtime_ns
        for _ in range(2):  # nothing is left for the second
            predict(tmp_path / "in", tmp_path / "out", skip_existing=True)
        assert files(tmp_path / "out") == ["a_seg.nii.gz", "b_seg.nii.gz"]
        assert (tmp_path / "out" / "a_seg.nii.gz").stat().st_mtime_ns == before

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"tta_flips": [0, 1]}, "tta_flips must be a list of different lists"),
            ({"largest_component": "yes"}, "largest_component must be True or False, got 'yes'"),
            ({"skip_existing": "false"}, "skip_existing must be True or False, got 'false'"),
            ({"output_format": "dicom"}, "dicom_seg"),
            ({"output_format": "dicom_seg"}, "needs DICOM series, but 1 of 1 inputs are none"),
            ({"dataset_dir": "nowhere.nii"}, "no file or folder nowhere.nii"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_mistakes_are_told_before_the_work(
        self, options: dict[str, Any], message: str, predict: Callable[..., None], tmp_path: Path
    ) -> None:
        scan = write_scan(tmp_path / "a.nii.gz")
        with fails_with(message):
            predict(scan, tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()

    def test_missing_input_is_told_before_missing_weights(self, predict: Callable[..., None], tmp_path: Path) -> None:
        with fails_with("no volume in the folder"):
            predict(tmp_path, tmp_path / "out", checkpoint_file="nothing.pt")


class TestFailures:
    def test_a_broken_scan_in_the_middle(
        self, weights: Path, write_dicom: Callable[..., list[Path]], tmp_path: Path
    ) -> None:
        for name in "ace":
            write_scan(tmp_path / "in" / f"{name}.nii.gz")
        (tmp_path / "in" / "b.nii.gz").write_bytes((tmp_path / "in" / "a.nii.gz").read_bytes()[:3000])
        nan = np.full((40, 36, 3), np.nan, np.float32)
        nib.save(nib.Nifti1Image(nan, AFFINE), tmp_path / "in" / "c.nii.gz")
        write_dicom(tmp_path / "in" / "ct", [[0, 0, z] for z in (0, 2, 4, 8)])
        options = {**SMALL, "bundle_root": ACDC, "checkpoint_file": weights, "dataset_dir": tmp_path / "in"}
        command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", *config_of(ACDC, "inference")]
        for key, value in {**options, "output_dir": tmp_path / "out"}.items():
            command += [f"--{key}", str(value)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode not in (0, None)
        end = done.stderr[done.stderr.index("3 of 5 cases failed, 2 are done:") :]
        assert "b: " in end
        assert "c.nii.gz has 4320 NaN" in end
        assert "slices are missing: 4.00 mm between slice 3 and 4" in end
        assert files(tmp_path / "out") == ["a_seg.nii.gz", "e_seg.nii.gz"]


def test_class_names_are_those_of_the_metadata() -> None:
    config = parse(ACDC, "inference")
    config.read_meta(ACDC / "configs" / "metadata.json")
    scheme = config.get_parsed_content("label_scheme")
    assert ["background", *scheme.names] == config.get_parsed_content("class_names")
