# SPDX-License-Identifier: Apache-2.0
"""Generated, trained, scored and ensembled by MONAI's Auto3DSeg, on any machine."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from bundle_runs import BUNDLES, run
from monai.apps.auto3dseg import AutoRunner, BundleGen, DataAnalyzer, import_bundle_algo_history
from monai.bundle import ConfigParser
from monai.utils.enums import AlgoKeys

from monai_sam2adapter.data import ACDC_CLASS_NAMES, acdc_datalist, write_acdc_phantom
from monai_sam2adapter.handlers import TrainingCheckpoint
from monai_sam2adapter.networks.nets import PromptFreeSAM2

SMALL = {
    **{"adapter": "none", "positional_encoding": "sam2", "image_size": 32, "device": "cpu", "num_workers": 0},
    "sam2_checkpoint": "random",
}


def write_volumes(folder: Path, shape: tuple[int, ...] = (40, 36, 5), spacing: tuple[float, ...] = (1, 1, 4)) -> None:
    """Four cases of two structures and one to predict."""
    random = np.random.default_rng(0)
    affine = np.diag([*spacing, *[1] * (4 - len(spacing))])
    for number in range(5):
        image = random.normal(size=shape).astype(np.float32)
        nib.save(nib.Nifti1Image(image, affine), folder / f"image{number}.nii.gz")
        labels = (image[..., 0] if len(shape) == 4 else image) > np.array([0.5, 1.5]).reshape(2, *[1] * len(shape[:3]))
        nib.save(nib.Nifti1Image(labels.sum(axis=0).astype(np.uint8), affine), folder / f"label{number}.nii.gz")
    cases = [{"image": f"image{n}.nii.gz", "label": f"label{n}.nii.gz", "fold": n % 2} for n in range(4)]
    datalist = {"training": cases, "testing": [{"image": "image4.nii.gz"}]}
    (folder / "datalist.json").write_text(json.dumps(datalist), encoding="utf-8")


def generate(folder: Path, name: str = "sam2adapter", options: dict[str, Any] = SMALL, **source: Any) -> list[Any]:
    """The algorithms of two folds, of the data in the folder."""
    source = {"modality": "MRI", "datalist": str(folder / "datalist.json"), "dataroot": str(folder), **source}
    (folder / "input.json").write_text(json.dumps(source), encoding="utf-8")
    stats = folder / "datastats.yaml"
    if not stats.is_file():
        DataAnalyzer(source["datalist"], str(folder), str(stats), device="cpu", worker=0).get_all_case_stats()
    target = {"_target_": "monai_sam2adapter.auto3dseg.SAM2AdapterAlgo", "options": options}
    generator = BundleGen(str(folder), {name: target}, None, str(stats), str(folder / "input.json"))
    generator.generate(str(folder), num_fold=2)
    return [entry[AlgoKeys.ALGO] for entry in import_bundle_algo_history(str(folder), only_trained=False)]


def defaults(algo: Any, name: str) -> dict[str, Any]:
    return json.loads(Path(algo.get_output_path(), "configs", f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_volumes(tmp_path)
    return tmp_path


class TestGeneration:
    def test_each_fold_is_a_bundle_with_the_data_and_options_as_its_defaults(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(data)
        names = ["edema", "tumor"]
        options = {**SMALL, "tta_flips": [[0]], "output_stride": 2, "train#preprocessing#transforms#2#prob": 0.25}
        algos = generate(data, options=options, class_names=names, dataroot=".")
        assert [Path(algo.get_output_path()).name for algo in algos] == ["sam2adapter_0", "sam2adapter_1"]
        for fold, algo in enumerate(algos):
            train, inference = defaults(algo, "train"), defaults(algo, "inference")
            assert (train["fold"], train["adapter"]) == (fold, "none")
            assert (inference["adapter"], inference["image_size"], inference["tta_flips"]) == ("none", 32, [[0]])
            datalist = json.loads(Path(algo.get_output_path(), "datalist.json").read_text(encoding="utf-8"))
            assert datalist["labels"] == {"background": 0, "edema": 1, "tumor": 2}
            assert train["output_stride"] == inference["output_stride"] == 2
            assert train["train"]["preprocessing"]["transforms"][2]["prob"] == 0.25
            assert datalist["channel_names"] == {"0": "MRI"}
            assert [case["fold"] for case in datalist["training"]] == [0, 1, 0, 1]
            assert all(Path(case["image"]).is_file() for case in datalist["training"])

    def test_what_is_not_of_the_data_is_as_in_the_bundle(self, data: Path) -> None:
        (algo, _) = generate(data, options={})
        for name in ("train", "inference", "evaluate", "multi_gpu_train", "metadata"):
            own = json.loads((BUNDLES / "volume_segmentation" / "configs" / f"{name}.json").read_text())
            changed = {key for key, value in defaults(algo, name).items() if value != own[key]}
            expected = {"train": {"dataset_dir", "sam2_checkpoint"}}.get(name, set())
            assert changed == expected
        parser = ConfigParser(defaults(algo, "train"))
        assert parser.get_parsed_content("sam2_checkpoint") == "sam2.1_hiera_tiny"

    @pytest.mark.parametrize(
        ("shape", "spacing", "size"), [((40, 36, 5), (1, 1, 4), 224), ((3, 300, 260), (5, 1, 1), 320)], ids=str
    )
    def test_the_image_size_is_that_of_the_slices(
        self, tmp_path: Path, shape: tuple[int, ...], spacing: tuple[float, ...], size: int
    ) -> None:
        write_volumes(tmp_path, shape, spacing)
        (algo, _) = generate(tmp_path, options={})
        assert (defaults(algo, "train")["image_size"], defaults(algo, "inference")["image_size"]) == (size, size)

    def test_options_have_the_names_of_other_algorithms(self, data: Path, caplog: pytest.LogCaptureFixture) -> None:
        (algo, _) = generate(data)
        params = {"num_epochs": 3, "num_epochs_per_validation": 2, "num_images_per_batch": 5}
        params |= {"num_warmup_epochs": 1, "roi_size": 96}
        algo.export_to_disk(str(data), "sam2adapter_0_trial", **params, fill_with_datastats=False)  # as NNIGen does
        train = defaults(algo, "train")
        assert (train["epochs"], train["val_interval"], train["batch_size"], train["warmup_epochs"]) == (3, 2, 5, 1)
        assert defaults(algo, "inference")["batch_size"] == 8
        assert "roi_size" in caplog.text

    def test_what_the_network_is_and_sees_reaches_training_and_inference(self, data: Path) -> None:
        unet = {"_target_": "monai.networks.nets.UNet", "spatial_dims": 2, "in_channels": 1, "channels": [4, 8]}
        options = {"network_def": {**unet, "out_channels": "@num_classes", "strides": [2]}, "spatial_size": [64, 32]}
        (algo, _) = generate(data, options={})
        algo.export_to_disk(str(data), "sam2adapter_0_trial", **options)
        for name in ("train", "inference"):
            assert {key: defaults(algo, name)[key] for key in options} == options

    def test_several_of_one_kind_go_beside_each_other(self, data: Path) -> None:
        generate(data, "first")
        names = [Path(algo.get_output_path()).name for algo in generate(data, "second")]
        assert names == ["first_0", "first_1", "second_0", "second_1"]


class TestWrongInput:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"sigmoid": True}, "classes that overlap"),
            ({"class_names": ["tumor"]}, r"class_names \['tumor'\], but the labels in the data are \[0, 1, 2\]"),
            ({"class_names": [{"name": "whole", "index": [1, 2]}]}, "'whole' is a region of the labels"),
            ({"name": "sam2_adapter"}, "give it a name without"),
            ({"options": {**SMALL, "adaptor": "lw"}}, "did you mean adapter"),
            ({"options": {**SMALL, "train#losses#batch": False}}, "no place train#losses#batch: there is no 'losses'"),
            ({"options": {**SMALL, "epochs": 0}}, "epochs must be an integer of at least 1"),
        ],
        ids=["overlap", "names", "region", "name", "unknown-option", "unknown-place", "wrong-value"],
    )
    def test_is_named_and_leaves_nothing(self, data: Path, given: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            generate(data, **given)
        assert not [path.name for path in data.iterdir() if path.is_dir()]

    def test_of_two_dimensions(self, tmp_path: Path) -> None:
        write_volumes(tmp_path, (40, 36), (1, 1))
        with pytest.raises(ValueError, match="have 2 dimensions, expected volumes of 3; train on pictures with"):
            generate(tmp_path)


class TestTraining:
    @pytest.mark.parametrize(("devices", "config"), [("", "train.json"), ("0,1", "multi_gpu_train.json")], ids=str)
    def test_runs_the_bundle(self, data: Path, devices: str, config: str, capfd: pytest.CaptureFixture[str]) -> None:
        (algo, _) = generate(data)
        device = {"CUDA_VISIBLE_DEVICES": devices, "n_devices": 2, "NUM_NODES": 1, "CMD_PREFIX": "echo launcher"}
        with pytest.raises(RuntimeError, match="no best network"):  # of echo
            algo.train({"num_epochs": 7, "resume": True}, device)  # of which nothing is there yet
        shown = capfd.readouterr().out
        assert "launcher -m monai.bundle run training" in shown
        assert (config in shown, "--overwrite True" in shown) == (True, True)
        assert defaults(algo, "train")["epochs"] == 7

    def test_fails_with_its_process(self, data: Path) -> None:
        (algo, _) = generate(data)
        with pytest.raises(RuntimeError, match="failed with exit code 1"):
            algo.train(device_setting={"CUDA_VISIBLE_DEVICES": "", "NUM_NODES": 1, "CMD_PREFIX": "false"})
        with pytest.raises(FileNotFoundError, match="is not trained"):
            algo.get_score()
        with pytest.raises(NotImplementedError, match="got 2 nodes, expected 1"):
            algo.train(device_setting={"NUM_NODES": 2})

    def test_refuses_wrong_options_before_it_starts(self, data: Path) -> None:
        (algo, _) = generate(data)
        with pytest.raises(ValueError, match="unknown option epoch: did you mean epochs"):
            algo.train({"epoch": 3}, {"CMD_PREFIX": f"{sys.executable} -c raise"})


@pytest.mark.parametrize("channels", [1, 2])
def test_predicts_what_inference_does(tmp_path: Path, channels: int) -> None:
    write_volumes(tmp_path, (40, 36, 5, 2)[: 2 + channels], (1, 2, 4))
    (algo, _) = generate(tmp_path)
    root, file = Path(algo.get_output_path()), str(tmp_path / "image4.nii.gz")
    config = ("tiny", "none")
    net = PromptFreeSAM2(*config, positional_encoding="sam2", in_channels=channels, out_channels=3)
    (root / "models").mkdir()
    torch.save(net.state_dict(), root / "models" / "model.pt")
    description = {"class_names": ["background", "a", "b"], "normalization": [{}] * channels, "num_channels": channels}
    description |= {"orientation": "RAS", "slices_by": "orientation", "slice_axis": -1}
    (root / "models" / "dataset.json").write_text(json.dumps(description), encoding="utf-8")

    (predicted,) = algo.predict([{"image": file}], {"rank": 0, "output_postfix": "ensemble", "batch_size": 2})
    run(root, "inference", "inference", dataset_dir=file, output_dir=tmp_path / "results", adapter="none")
    expected = nib.load(tmp_path / "results" / "image4_seg.nii.gz")
    assert predicted.shape == (3, 40, 36, 5)
    np.testing.assert_array_equal(predicted.argmax(dim=0).numpy(), np.asarray(expected.dataobj))
    np.testing.assert_allclose(predicted.affine.numpy(), expected.affine)
    torch.testing.assert_close(predicted.as_tensor().sum(dim=0), torch.ones(40, 36, 5))
    with pytest.raises(ValueError, match="unknown option tta_flip: did you mean tta_flips"):
        algo.predict([file], {"tta_flip": [[0]]})


@pytest.mark.slow
def test_auto_runner_trains_two_folds_and_ensembles_them(tmp_path: Path) -> None:
    """By the input and the command of docs/auto3dseg.md, and by them once more with another ensemble."""
    write_acdc_phantom(tmp_path / "acdc", num_train=11, num_val=1, num_test=0, progress=False)
    *cases, first, second = acdc_datalist(tmp_path / "acdc", "train")
    unseen = [first, second]  # of one patient
    training = [{"image": case["image"], "label": case["label"], "fold": n // 2 % 2} for n, case in enumerate(cases)]
    datalist = {"training": training, "testing": [{"image": case["image"]} for case in unseen]}
    (tmp_path / "datalist.json").write_text(json.dumps(datalist), encoding="utf-8")
    options = {"adapter": "lw", "image_size": 64, "epochs": 8, "val_interval": 2, "learning_rate": 2e-3}
    page = (BUNDLES.parent / "docs" / "auto3dseg.md").read_text(encoding="utf-8")
    source = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    source |= {"dataroot": str(tmp_path / "acdc"), "class_names": list(ACDC_CLASS_NAMES[1:])}
    source["algos"]["sam2adapter"]["options"] = {"sam2_checkpoint": "random", "num_workers": 0, **options}
    (tmp_path / "input.yaml").write_text(yaml.safe_dump(source), encoding="utf-8")
    (command,) = [line.split() for line in page.splitlines() if " AutoRunner run " in line]
    subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True, timeout=1800)

    history = import_bundle_algo_history(str(tmp_path / "work"))
    assert [entry[AlgoKeys.ID] for entry in history] == ["sam2adapter_0", "sam2adapter_1"]
    bundles = [Path(entry[AlgoKeys.ALGO].get_output_path()) for entry in history]
    scores = [float(entry[AlgoKeys.SCORE]) for entry in history]
    own = {"adapter": "lw", "image_size": 64, "batch_size": 8}  # not those of the other tests
    for bundle, score in zip(bundles, scores, strict=True):
        run(bundle, "evaluating", "train", "evaluate", split="val", **own)
        with (bundle / "eval" / "cases.csv").open(encoding="utf-8") as file:
            dice = [float(row["dice"]) for row in csv.DictReader(file)]
        assert score == pytest.approx(np.nanmean(dice), abs=1e-4)

    found = [segmented(tmp_path / "work" / "ensemble_output", case["image"]) for case in unseen]
    maps = [[probabilities(bundle, case["image"], own) for bundle in bundles] for case in unseen]
    for labels, both, case in zip(found, maps, unseen, strict=True):
        assert (labels == np.mean(both, axis=0).argmax(axis=-1)).mean() > 0.9999  # but for classes that are equal
        np.testing.assert_array_equal(nib.load(case["label"]).shape, labels.shape)
    print(f"Dice: {scores[0]:.3f} and {scores[1]:.3f} of the folds, {mean_dice(found, unseen):.3f} of the ensemble")
    assert mean_dice(found, unseen) > 0.3

    runner = AutoRunner(str(tmp_path / "work"))
    assert not runner.analyze
    assert not runner.algo_gen
    runner.set_ensemble_method("AlgoEnsembleBestN", n_best=1).set_image_save_transform(output_dir=str(tmp_path / "one"))
    runner.run()
    for both, case in zip(maps, unseen, strict=True):
        best = both[int(np.argmax(scores))].argmax(axis=-1)
        assert (segmented(tmp_path / "one", case["image"]) == best).mean() > 0.9999


def segmented(folder: Path, image: str) -> np.ndarray:
    (file,) = folder.rglob(f"{Path(image).name.partition('.')[0]}_ensemble.nii.gz")
    np.testing.assert_allclose(nib.load(file).affine, nib.load(image).affine, atol=1e-5)
    return np.asarray(nib.load(file).dataobj)


def probabilities(bundle: Path, image: str, options: dict[str, Any]) -> np.ndarray:
    """By the bundle's own inference."""
    results = bundle / Path(image).name
    given = {"dataset_dir": image, "output_dir": results, "save_probabilities": True, **options}
    run(bundle, "inference", "inference", **given)
    return nib.load(next(results.glob("*_probabilities.nii.gz"))).get_fdata(dtype=np.float32)


def mean_dice(found: list[np.ndarray], cases: list[dict[str, str]]) -> float:
    truths = [np.asarray(nib.load(case["label"]).dataobj) for case in cases]
    pairs = [(labels == k, truth == k) for labels, truth in zip(found, truths, strict=True) for k in (1, 2, 3)]
    return float(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs]))


class TestResume:
    @pytest.fixture
    def commands(self, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
        """Of the trainings that were started, which then fail."""
        started: list[list[str]] = []

        def run(command: list[str], **options: Any) -> subprocess.CompletedProcess:
            started.append(command)
            return subprocess.CompletedProcess(command, 1)

        monkeypatch.setattr(subprocess, "run", run)
        return started

    def test_is_an_option_of_the_algorithm_too(self, data: Path, commands: list[list[str]]) -> None:
        (algo, _) = generate(data, options={**SMALL, "resume": True})
        with pytest.raises(RuntimeError, match="failed with exit code 1"):
            algo.train()
        assert commands[0][-4:] == ["--resume", "False", "--overwrite", "True"]  # there is nothing yet

    def test_leaves_a_training_that_has_ended_scored(
        self, data: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (algo, _) = generate(data)
        models = Path(algo.get_output_path()) / "models"
        models.mkdir()
        (models / "last.pt").touch()
        (models / "score.json").write_text('{"best_avg_dice_score": 0.5}', encoding="utf-8")
        epochs = defaults(algo, "train")["epochs"]
        progress = {"epoch": epochs, "stopped": False}
        monkeypatch.setattr(TrainingCheckpoint, "progress", staticmethod(lambda folder: progress))
        algo.train({"resume": True})
        assert (commands, algo.get_score()) == ([], 0.5)
        with pytest.raises(RuntimeError):
            algo.train({"resume": True, "num_epochs": epochs + 1})  # longer
        assert commands[0][-4:] == ["--resume", "True", "--overwrite", "False"]
