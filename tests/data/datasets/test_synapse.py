# SPDX-License-Identifier: Apache-2.0
"""Synapse: codings, layouts that are read, messages for those that are not, and the check of a folder."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import MapLabelValued

from monai_sam2adapter.data import (
    check_synapse,
    format_report,
    packaged_split_file,
    read_folds,
    synapse_class_names,
    synapse_datalist,
    synapse_label_map,
)

# as TransUNet's successors list them, in the order of the labels 1 to 8
TRANSUNET_ORGANS = ["aorta", "gallbladder", "left kidney", "right kidney", "liver", "pancreas", "spleen", "stomach"]
TEST_CASES = [1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38]


def scans(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


class TestLabels:
    def test_the_8_organs_are_those_of_transunet_and_the_13_those_of_the_challenge(self) -> None:
        assert list(synapse_class_names(9)) == ["background", *TRANSUNET_ORGANS]
        names = synapse_class_names(14)
        assert len(set(names)) == 14
        assert (names[1], names[5], names[9], names[13]) == (
            "spleen",
            "esophagus",
            "inferior vena cava",
            "left adrenal gland",
        )

    @pytest.mark.parametrize("num_classes", [9, 14])
    def test_each_label_becomes_the_class_of_its_organ_or_background(self, num_classes: int) -> None:
        originals, targets = synapse_label_map(num_classes)
        transform = MapLabelValued("label", originals, targets, dtype=np.uint8)
        mapped = transform({"label": np.arange(14, dtype=np.uint8)})["label"]
        organs, classes = synapse_class_names(14), synapse_class_names(num_classes)
        for organ, label in zip(organs, mapped, strict=True):
            assert classes[label] == (organ if organ in classes else "background")

    def test_the_9_class_map_in_numbers(self) -> None:
        assert dict(zip(*synapse_label_map(9), strict=True)) == {
            **dict.fromkeys([0, 5, 9, 10, 12, 13], 0),
            **{8: 1, 4: 2, 3: 3, 2: 4, 6: 5, 11: 6, 1: 7, 7: 8},
        }

    @pytest.mark.parametrize("num_classes", [8, 13, "9"])
    def test_other_codings_are_errors(self, num_classes: int, tmp_path: Path) -> None:
        for use in (synapse_label_map, synapse_class_names):
            with pytest.raises(ValueError, match=r"expected 9 \(the 8 organs of TransUNet\) or 14"):
                use(num_classes)
        with pytest.raises(ValueError, match="expected 9"):
            synapse_datalist(tmp_path, "train", num_classes=num_classes)


def test_every_fold_has_transunets_test_cases_and_each_other_case_is_for_validation_once() -> None:
    folds = read_folds(packaged_split_file("synapse"))
    test = [f"case{number:04d}" for number in TEST_CASES]
    others = {f"case{number:04d}" for number in [*range(1, 11), *range(21, 41)]} - set(test)
    assert len(folds) == 6
    for fold in folds:
        assert fold["test"] == test
        assert {*fold["train"], *fold["val"]} == others
        assert len(fold["val"]) == 3
    assert sorted(case for fold in folds for case in fold["val"]) == sorted(others)


class TestScans:
    def test_items_are_whole_cases(self, synapse_phantom_dir: Path) -> None:
        assert synapse_datalist(synapse_phantom_dir, "train") == [
            {
                "image": str(synapse_phantom_dir / "Training" / "img" / "img0006.nii.gz"),
                "label": str(synapse_phantom_dir / "Training" / "label" / "label0006.nii.gz"),
                "case": "case0006",
            }
        ]
        assert [item["case"] for item in synapse_datalist(synapse_phantom_dir, "val")] == ["case0005"]
        assert [item["case"] for item in synapse_datalist(synapse_phantom_dir, "val", fold=1)] == ["case0006"]
        assert [item["case"] for item in synapse_datalist(synapse_phantom_dir, "test", fold=5)] == ["case0001"]

    @pytest.mark.parametrize(
        ("image", "label"),
        [
            pytest.param("img0001.nii.gz", "label0001.nii.gz", id="flat"),
            pytest.param("img0001.nii", "label0001.nii", id="unpacked"),
            pytest.param("img/img0001.nii.gz", "label/label0001.nii.gz", id="below-training"),
            pytest.param("imagesTr/img0001.nii.gz", "labelsTr/label0001.nii.gz", id="monai"),
            pytest.param("RawData/Training/img/img0001.nii.gz", "RawData/Training/label/label0001.nii.gz", id="raw"),
        ],
    )
    def test_every_layout_is_read(self, tmp_path: Path, image: str, label: str) -> None:
        scans(tmp_path, image, label, "RawData/Testing/img/img0061.nii.gz", "img0002.txt")
        assert synapse_datalist(tmp_path, "test") == [
            {"image": str(tmp_path / image), "label": str(tmp_path / label), "case": "case0001"}
        ]

    def test_an_own_split_is_followed_with_its_own_numbers(self, tmp_path: Path) -> None:
        scans(tmp_path, "img0011.nii", "label0011.nii", "img0012.nii", "label0012.nii")
        path = tmp_path / "own.json"
        path.write_text(json.dumps({"train": ["case0012"], "val": ["case0099"], "test": []}))
        assert [item["case"] for item in synapse_datalist(tmp_path, "train", split_file=path)] == ["case0012"]
        with pytest.raises(ValueError, match=r"none of the 2 cases .*\(case0011; case0012\).*own\.json"):
            synapse_datalist(tmp_path, "val", split_file=path)

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            pytest.param(
                ["img0001.nii.gz"], r"img0001\.nii\.gz: its labels label0001\.nii\.gz are missing", id="no-label"
            ),
            pytest.param(["label0001.nii.gz"], r"label0001\.nii\.gz: labels without their scan img0001", id="no-image"),
            pytest.param(
                ["img0001.nii.gz", "img0001.nii", "label0001.nii"], r"img0001\.nii\.gz: is there twice", id="twice"
            ),
            pytest.param(
                ["img0001.nii", "label0001.nii", "img0011.nii", "label0011.nii"],
                r"img0011\.nii: the challenge has no labeled cases 0011 to 0020, here are case0011; copies",
                id="renumbered",
            ),
            pytest.param(["averaged-training-images/DET0000101_avg.nii.gz"], "MR images of the heart", id="cardiac"),
            pytest.param(["scan.nii.gz"], "no case of Synapse in .*Training/img/img0001.nii.gz", id="other"),
        ],
    )
    def test_a_wrong_folder_is_an_error(self, tmp_path: Path, names: list[str], message: str) -> None:
        scans(tmp_path, *names)
        with pytest.raises(ValueError, match=message):
            synapse_datalist(tmp_path, "test")

    def test_an_incomplete_case_is_an_error_of_its_part_only(self, synapse_dir: Path) -> None:
        (synapse_dir / "Training" / "label" / "label0006.nii.gz").unlink()
        with pytest.raises(ValueError, match=r"label0006\.nii\.gz are missing.*check synapse"):
            synapse_datalist(synapse_dir, "train")
        assert len(synapse_datalist(synapse_dir, "val")) == 1

    def test_wrong_arguments_are_errors(self, synapse_phantom_dir: Path, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="did you mean 'train'"):
            synapse_datalist(synapse_phantom_dir, "trian")
        with pytest.raises(ValueError, match="there is no fold 6"):
            synapse_datalist(synapse_phantom_dir, "train", fold=6)
        with pytest.raises(FileNotFoundError, match=r"no folder .*absent"):
            synapse_datalist(tmp_path / "absent", "train")

    def test_the_real_sample_is_a_test_case(self, shared_data: Path) -> None:
        items = synapse_datalist(shared_data / "ct_sample", "test", num_classes=14)
        assert [(item["case"], Path(item["image"]).name) for item in items] == [("case0001", "img0001.nii.gz")]


class TestArrays:
    def test_a_case_is_a_list_of_slices_or_a_volume(self, transunet_dir: Path) -> None:
        slices = [str(transunet_dir / "train_npz" / f"case0005_slice00{k}.npz") for k in range(2)]
        volume = str(transunet_dir / "test_vol_h5" / "case0001.npy.h5")
        assert synapse_datalist(transunet_dir, "test") == [{"image": volume, "label": volume, "case": "case0001"}]
        assert synapse_datalist(transunet_dir, "val") == [{"image": slices, "label": slices, "case": "case0005"}]

    def test_slices_are_in_the_order_of_their_numbers(self, tmp_path: Path) -> None:
        scans(tmp_path / "train_npz", *[f"case0005_slice{k}.npz" for k in range(11)])
        (item,) = synapse_datalist(tmp_path, "val")
        assert [Path(path).stem for path in item["image"]] == [f"case0005_slice{k}" for k in range(11)]

    def test_a_missing_slice_is_an_error(self, transunet_dir: Path) -> None:
        (transunet_dir / "train_npz" / "case0005_slice000.npz").unlink()
        with pytest.raises(ValueError, match=r"case0005_slice001\.npz: slices 0 of this case are missing"):
            synapse_datalist(transunet_dir, "val")

    def test_a_case_of_both_kinds_is_an_error(self, transunet_dir: Path) -> None:
        shutil.copy(
            transunet_dir / "test_vol_h5" / "case0001.npy.h5", transunet_dir / "test_vol_h5" / "case0005.npy.h5"
        )
        with pytest.raises(ValueError, match=r"case0005\.npy\.h5 is there twice, also as slices"):
            synapse_datalist(transunet_dir, "test")

    def test_13_organs_are_refused(self, transunet_dir: Path) -> None:
        with pytest.raises(ValueError, match="TransUNet's arrays, which have 9 classes, but num_classes is 14"):
            synapse_datalist(transunet_dir, "test", num_classes=14)


class TestCheckOfScans:
    def test_good_scans_are_counted_and_have_no_problem(self, synapse_phantom_dir: Path) -> None:
        report = check_synapse(synapse_phantom_dir, progress=False)
        assert report.problems == []
        masks = {
            path.name[5:9]: np.asarray(nib.load(path).dataobj) for path in synapse_phantom_dir.rglob("label*.nii.gz")
        }
        depth = {number: mask.shape[2] for number, mask in masks.items()}
        assert sorted(depth) == ["0001", "0005", "0006"]
        assert report.counts["fold 0 train"] == {"cases": 1, "slices": depth["0006"]}
        assert report.counts["fold 1 train"] == {"cases": 1, "slices": depth["0005"]}
        assert report.counts["fold 0 test"] == report.counts["fold 5 test"] == {"cases": 1, "slices": depth["0001"]}
        assert report.counts["fold 5 val"] == {"cases": 0, "slices": 0}
        voxels = sum(np.bincount(mask.ravel(), minlength=14) for mask in masks.values())
        np.testing.assert_array_equal(report.voxels, voxels)
        assert "portal and splenic veins" in format_report(report)

    def test_a_part_without_cases_in_all_folds_is_a_problem(self, synapse_dir: Path) -> None:
        for path in synapse_dir.rglob("*0001.nii.gz"):
            path.unlink()
        assert check_synapse(synapse_dir, progress=False).problems == [
            f"{synapse_dir}: no case of the part 'test' of the split"
        ]

    def test_renumbered_copies_are_a_problem_but_with_an_own_split(self, synapse_dir: Path, tmp_path: Path) -> None:
        for path in synapse_dir.rglob("*0006.nii.gz"):
            path.rename(path.with_name(path.name.replace("0006", "0011")))
        problems = check_synapse(synapse_dir, progress=False).problems
        assert any("the challenge has no labeled cases 0011 to 0020" in problem for problem in problems)
        own = tmp_path / "own.json"
        own.write_text('{"train": ["case0011"], "val": ["case0005"], "test": ["case0001"]}')
        report = check_synapse(synapse_dir, split_file=own, progress=False)
        assert report.problems == []
        assert report.counts["train"]["cases"] == 1

    def test_the_real_sample_lacks_only_parts_and_is_said_to_have_no_esophagus(
        self, shared_data: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            report = check_synapse(shared_data / "ct_sample", progress=False)
        assert [problem.split(": ")[1] for problem in report.problems] == [
            "no case of the part 'train' of the split",
            "no case of the part 'val' of the split",
        ]
        assert report.shapes == [(122, 101, 30)]
        assert np.flatnonzero(report.voxels == 0).tolist() == [5]
        assert "no case has esophagus" in caplog.text

    def test_scans_that_are_no_ct_and_copies_are_found(self, synapse_dir: Path) -> None:
        scans_of = {number: synapse_dir / "Training" / "img" / f"img000{number}.nii.gz" for number in (1, 5, 6)}
        old = nib.load(scans_of[6])
        nib.save(nib.Nifti1Image(np.asarray(old.dataobj) + 1024, old.affine), scans_of[6])
        shutil.copy(scans_of[1], scans_of[5])
        shutil.copy(synapse_dir / "Training/label/label0001.nii.gz", synapse_dir / "Training/label/label0005.nii.gz")
        copied, shifted = check_synapse(synapse_dir, progress=False).problems
        assert copied == f"{scans_of[5]}: shows the same as {scans_of[1]}, voxel by voxel"
        assert shifted.startswith(f"{scans_of[6]}: is not in Hounsfield units")

    @pytest.mark.parametrize(
        ("missing", "named", "message"),
        [
            ("label/label0006", "img/img0006", "its labels label0006.nii.gz are missing"),
            ("img/img0006", "label/label0006", "labels without their scan img0006.nii.gz"),
        ],
    )
    def test_missing_files_are_problems(self, synapse_dir: Path, missing: str, named: str, message: str) -> None:
        (synapse_dir / "Training" / f"{missing}.nii.gz").unlink()
        assert check_synapse(synapse_dir, progress=False).problems == [
            f"{synapse_dir}/Training/{named}.nii.gz: {message}"
        ]


class TestCheckOfArrays:
    def test_good_arrays_are_counted_in_9_classes(self, transunet_dir: Path) -> None:
        report = check_synapse(transunet_dir, progress=False)
        assert report.problems == []
        assert report.counts["fold 0 val"] == report.counts["fold 0 test"] == {"cases": 1, "slices": 2}
        assert report.shapes == [(6, 4, 2), (6, 4, 2)]
        assert report.spacings == []
        np.testing.assert_array_equal(report.voxels, 2 * np.bincount(np.arange(48) % 9))
        np.testing.assert_array_equal(report.volumes_with_class, 9 * [2])
        assert "aorta" in format_report(report)

    @pytest.mark.parametrize(
        ("image", "label", "message"),
        [
            pytest.param(
                np.linspace(0, 1, 24).reshape(4, 6), 9, "has the labels 9; expected integers 0 to 8", id="label"
            ),
            pytest.param(-1000, 1, "expected about 0 to 1", id="HU"),
            pytest.param(np.nan, 1, "has 24 NaN or infinite voxels", id="nan"),
            pytest.param(0.5, 1, "is empty: all voxels are equal", id="constant"),
        ],
    )
    def test_wrong_values_are_found_in_their_slice(
        self, transunet_dir: Path, image: float | np.ndarray, label: float, message: str
    ) -> None:
        path = transunet_dir / "train_npz" / "case0005_slice001.npz"
        np.savez(path, image=np.full((4, 6), image), label=np.full((4, 6), label))
        (problem,) = check_synapse(transunet_dir, progress=False).problems
        assert problem.startswith(f"{path}: ")
        assert message in problem

    def test_other_sizes_missing_arrays_gaps_and_empty_cases_are_found(self, transunet_dir: Path) -> None:
        folder = transunet_dir / "train_npz"
        np.savez(folder / "case0005_slice001.npz", image=np.zeros((4, 6)), label=np.zeros((6, 4)))
        np.savez(folder / "case0005_slice003.npz", image=np.eye(8, 6))
        np.savez(folder / "case0006_slice000.npz", image=np.zeros((4, 6)), label=np.zeros((4, 6)))
        assert check_synapse(transunet_dir, progress=False).problems == [
            f"{folder}/case0005_slice000.npz: slices 2 of this case are missing",
            f"{folder}/case0005_slice001.npz: is empty: all voxels are equal",
            f"{folder}/case0005_slice001.npz: its labels have the size (4, 6, 1), its image (6, 4, 1)",
            f"{folder}/case0005_slice003.npz: has no array 'label', only ['image']; expected 'image' and 'label'",
            f"{folder}/case0005_slice000.npz: the slices of its case differ in size: [(6, 4), (6, 8)]",
            f"{folder}/case0006_slice000.npz: is empty: all voxels are equal",
            f"{folder}/case0006_slice000.npz: its case is empty: no voxel of any class but background",
        ]

    def test_an_array_without_slices_is_found(self, transunet_dir: Path) -> None:
        path = transunet_dir / "train_npz" / "case0005_slice001.npz"
        np.savez(path, image=np.zeros((0, 4, 6)), label=np.zeros((0, 4, 6)))
        problems = check_synapse(transunet_dir, progress=False).problems
        assert [problem.split(": ")[0] for problem in problems] == [str(path)] * 2

    def test_the_same_case_as_slices_and_as_a_volume_is_found(self, transunet_dir: Path) -> None:
        volume = transunet_dir / "test_vol_h5" / "case0001.npy.h5"
        with pytest.importorskip("h5py").File(volume) as file:
            arrays = {key: file[key][:] for key in ("image", "label")}
        for k in range(2):
            np.savez(
                transunet_dir / "train_npz" / f"case0005_slice{k:03d}.npz",
                **{key: array[k] for key, array in arrays.items()},
            )
        (problem,) = check_synapse(transunet_dir, progress=False).problems
        assert problem == (
            f"{transunet_dir}/train_npz/case0005_slice000.npz: shows the same as {volume}, voxel by voxel"
        )
