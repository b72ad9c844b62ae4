# SPDX-License-Identifier: Apache-2.0
"""Evaluation and inference of every bundle with several networks: the mean of what each gives alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from bundle_runs import ACDC, BUNDLES, fails_with, parse, read, run
from PIL import Image, ImageSequence
from scipy.stats import entropy

from monai_sam2adapter import data
from monai_sam2adapter.bundle import publishing

VOLUMES = BUNDLES / "volume_segmentation"


def write_members(bundle: Path, folder: Path, **options: Any) -> list[Path]:
    """Two networks of random weights, each with the description of the data that it has seen."""
    description = read(bundle, "inference").get("default_description")
    paths = [folder / name / "model.pt" for name in "ab"]
    for seed, path in enumerate(paths):
        path.parent.mkdir()
        torch.manual_seed(seed)
        network = parse(bundle, "inference", **options).get_parsed_content("network_def")
        torch.save(network.state_dict(), path)
        if description is not None:
            path.with_name("dataset.json").write_text(json.dumps(description), encoding="utf-8")
    return paths


def read_map(path: Path) -> np.ndarray:
    """Channels last."""
    if path.suffix == ".tif":
        with Image.open(path) as pages:
            return np.stack([np.asarray(page) for page in ImageSequence.Iterator(pages)], -1)
    values = nib.load(path).get_fdata()
    return values if values.ndim == 4 else values[..., None]


def read_labels(folder: Path, case: str) -> np.ndarray:
    path = next(folder.glob(f"{case}_seg.*"))
    return np.asarray(Image.open(path)) if path.suffix == ".png" else np.asarray(nib.load(path).dataobj)


def write_image(bundle: Path, folder: Path) -> Path:
    voxels = np.random.default_rng(0).normal(size=(40, 36, 3)).cumsum(0).cumsum(1) * 10
    voxels[:4] = -1000  # air, as in CT
    if read(bundle, "inference")["output_format"] == "png":
        kind = "L" if "isbi" in bundle.name else "RGB"
        Image.fromarray((voxels % 256).astype(np.uint8)).convert(kind).save(folder / "case.png")
        return folder / "case.png"
    nib.save(nib.Nifti1Image(voxels.astype(np.float32), np.diag([1.5, 2.0, 8.0, 1.0])), folder / "case.nii.gz")
    return folder / "case.nii.gz"


def total_entropy(probabilities: np.ndarray) -> np.ndarray:
    return entropy(with_background(probabilities), axis=-1) / np.log(max(2, probabilities.shape[-1]))


def with_background(probabilities: np.ndarray) -> np.ndarray:
    single = probabilities.shape[-1] == 1
    return np.concatenate([1 - probabilities, probabilities], axis=-1) if single else probabilities


def test_inference_gives_the_mean_of_the_probabilities(tmp_path: Path) -> None:
    check_inference(ACDC, {}, tmp_path)


@pytest.mark.slow
def test_so_it_does_in_every_bundle(bundle: Path, smallest: dict[str, Any], tmp_path: Path) -> None:
    check_inference(bundle, smallest, tmp_path)


def check_inference(bundle: Path, smallest: dict[str, Any], tmp_path: Path) -> None:
    """The maps and labels of two networks together are the mean of what each gives alone."""
    image, members = write_image(bundle, tmp_path), write_members(bundle, tmp_path, **smallest)

    def predict(name: str, checkpoint_file: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        places = {"dataset_dir": image, "output_dir": tmp_path / name, "checkpoint_file": checkpoint_file}
        run(bundle, "inference", "inference", **places, **smallest, save_probabilities=True, save_uncertainty=True)
        maps = [next((tmp_path / name).glob(f"case_{kind}.*")) for kind in ("probabilities", "uncertainty")]
        return (*map(read_map, maps), read_labels(tmp_path / name, "case"))

    alone = [predict(f"out_{path.parent.name}", path) for path in members]
    chance, uncertainty, labels = predict("both", [str(path) for path in members])
    each = [probabilities for probabilities, _, _ in alone]
    np.testing.assert_allclose(chance, np.mean(each, axis=0), atol=1e-5)
    assert np.abs(each[0] - each[1]).max() > 1e-3, "the members differ"
    by_chance = with_background(chance).argmax(-1)
    np.testing.assert_array_equal(labels, by_chance)
    expected = total_entropy(chance) - np.mean([total_entropy(values) for values in each], axis=0)
    np.testing.assert_allclose(uncertainty[..., 0], expected, atol=1e-4)

    predict("one", [str(members[0])])
    copy = shutil.copy(members[0], tmp_path / "a" / "copy.pt")
    chance, uncertainty, labels = predict("itself", [str(members[0]), str(copy)])
    np.testing.assert_allclose(chance, each[0], atol=1e-6)
    np.testing.assert_array_equal(labels, alone[0][2])
    assert uncertainty.max() < 1e-5, "it does not disagree with itself"
    for name in ("case_probabilities", "case_seg"):
        ((one,), (same,)) = (list((tmp_path / folder).glob(f"{name}.*")) for folder in ("out_a", "one"))
        assert one.read_bytes() == same.read_bytes()


class TestAcdc:
    @pytest.fixture(scope="class")
    def hearts(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("hearts")
        data.write_acdc_phantom(folder, num_train=1, num_val=1, num_test=1, progress=False)
        return folder

    def test_scores_are_those_of_the_mean_probabilities(self, hearts: Path, tmp_path: Path) -> None:
        files = [str(path) for path in write_members(ACDC, tmp_path)]
        places = {"dataset_dir": hearts, "output_dir": tmp_path / "eval", "checkpoint_file": files}
        run(ACDC, "evaluating", "train", "evaluate", num_workers=0, **places)
        results = json.loads((tmp_path / "eval" / "results.json").read_text(encoding="utf-8"))
        cases = {case["case"]: case for case in data.acdc_datalist(hearts, "test")}
        assert sorted(cases) == results["cases"]
        source = str([case["image"] for case in cases.values()])
        for file, name in zip(files, "ab", strict=True):
            options = {"dataset_dir": source, "output_dir": tmp_path / f"maps_{name}", "checkpoint_file": file}
            run(ACDC, "inference", "inference", save_probabilities=True, **options)
        for case, scores in zip(results["cases"], results["metrics"]["dice"]["values"], strict=True):
            maps = [read_map(tmp_path / f"maps_{name}" / f"{case}_probabilities.nii.gz") for name in "ab"]
            found = np.mean(maps, axis=0).argmax(-1)
            truth = np.asarray(nib.load(cases[case]["label"]).dataobj)
            for label, score in enumerate(scores, start=1):
                a, b = found == label, truth == label
                assert score == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()), abs=1e-5)  # equal but for ties
        checkpoint = results["about"]["checkpoint"]
        assert checkpoint.startswith("ensemble of 2: ")
        assert all(f"{file}, SHA-256 " in checkpoint for file in files)
        with pytest.raises(ValueError, match="has scores of ensemble of 2"):
            publishing._read_results(tmp_path / "eval", Path(files[1]))

    @pytest.mark.parametrize("run_id", ["inference", "evaluating"])
    def test_mistakes_are_told_before_data_are_read(
        self, run_id: str, hearts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = str(write_members(ACDC, tmp_path)[0])
        network = parse(ACDC, "inference", adapter="lw").get_parsed_content("network_def")
        torch.save(network.state_dict(), tmp_path / "lw.pt")

        def read_volume(*args: Any) -> None:
            pytest.fail("a volume was read")

        monkeypatch.setattr(data.VolumeReader, "read", read_volume)
        names = ("inference",) if run_id == "inference" else ("train", "evaluate")
        places = {"dataset_dir": hearts, "output_dir": tmp_path / "out"}
        for files, message in (
            ([], "checkpoint_file must be a path"),
            ([first, first], "or for an ensemble a list of different ones, got"),
            ([first, str(tmp_path / "a" / ".." / "a" / "model.pt")], "twice; name each member of an ensemble once"),
            ([first, "absent.pt"], "there are no trained weights at absent.pt"),
            ([first, str(tmp_path / "lw.pt")], "lw.pt does not fit the network"),
        ):
            with fails_with(message):
                run(ACDC, run_id, *names, checkpoint_file=files, **places)
        assert not list((tmp_path / "out").glob("*"))

    @pytest.mark.slow
    def test_a_dicom_series_gets_a_segmentation_of_its_own_kind(
        self, write_dicom: Callable[..., list[Path]], tmp_path: Path
    ) -> None:
        pytest.importorskip("highdicom")
        write_dicom(tmp_path / "mr", [[1, 2, 3.0 * n] for n in range(4)])
        files = [str(path) for path in write_members(ACDC, tmp_path)]
        for output_format in ("nii.gz", "dicom_seg"):
            places = {"dataset_dir": tmp_path / "mr", "output_dir": tmp_path / "out", "checkpoint_file": files}
            run(ACDC, "inference", "inference", output_format=output_format, **places)
        volume, seg = (next((tmp_path / "out").glob(f"*_seg.{ending}")) for ending in ("nii.gz", "dcm"))
        classes, objects = np.asarray(nib.load(volume).dataobj), pydicom.dcmread(seg)
        assert int(objects.pixel_array.sum()) == int((classes > 0).sum())
        assert len(np.unique(classes)) > 1


def test_members_that_saw_other_values_are_refused(tmp_path: Path) -> None:
    image, members = write_image(VOLUMES, tmp_path), write_members(VOLUMES, tmp_path)
    file = members[1].with_name("dataset.json")
    description = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**description, "normalization": [{"mean": 5.0, "std": 2.0}]}), encoding="utf-8")
    places = {"checkpoint_file": list(map(str, members)), "output_dir": tmp_path / "out", "dataset_dir": image}
    with fails_with(f"{members[1]} was trained with normalization [", "they make no ensemble"):
        run(VOLUMES, "inference", "inference", **places)
    file.unlink()
    with fails_with(f"no {file}, which says how images are normalized"):
        run(VOLUMES, "inference", "inference", **places)
    assert not (tmp_path / "out").exists()


def test_tensorrt_takes_one_network(tmp_path: Path) -> None:
    places = {"dataset_dir": tmp_path, "checkpoint_file": ["a.pt", "b.pt"]}
    assert "trt_args" in read(ACDC, "inference_trt")
    with fails_with("TensorRT runs one network, not an ensemble"):
        run(ACDC, "inference", "inference", "inference_trt", **places)
