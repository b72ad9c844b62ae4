# SPDX-License-Identifier: Apache-2.0
"""ACDC: layouts that are read, messages for those that are not, and the check of a folder."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.data import DataLoader, Dataset

from monai_sam2adapter.data import acdc_datalist, check_acdc


def test_items_are_complete_and_sorted(acdc_dir: Path) -> None:
    items = acdc_datalist(acdc_dir, "train")
    folder = acdc_dir / "training" / "patient001"
    assert [item["case"] for item in items] == sorted(item["case"] for item in items)
    assert items[0] == {
        "image": str(folder / "patient001_frame01.nii.gz"),
        "label": str(folder / "patient001_frame01_gt.nii.gz"),
        "case": "patient001_frame01",
        "patient": "patient001",
        "phase": "ED",
        "group": "DCM",
    }
    assert [item["phase"] for item in items] == ["ED", "ES"]


@pytest.mark.parametrize("below", ["training", "database/training"])
def test_root_and_patients_folder_give_the_same_cases(acdc_dir: Path, tmp_path: Path, below: str) -> None:
    root = tmp_path / "other"
    shutil.copytree(acdc_dir / "training", root / below)
    cases = [item["case"] for item in acdc_datalist(acdc_dir, "val")]
    assert [item["case"] for item in acdc_datalist(root, "val")] == cases
    assert [item["case"] for item in acdc_datalist(root / below, "val")] == cases


def test_4d_files_and_missing_info_do_not_matter_and_items_still_collate(acdc_dir: Path) -> None:
    folder = acdc_dir / "training" / "patient001"
    shutil.copy(folder / "patient001_frame01.nii.gz", folder / "patient001_4d.nii.gz")
    (folder / "Info.cfg").unlink()
    items = acdc_datalist(acdc_dir, "train")
    assert len(items) == 2
    assert {(item["phase"], item["group"]) for item in items} == {("", "")}
    both = Dataset(items[:1] + acdc_datalist(acdc_dir, "val")[:1])
    batch = next(iter(DataLoader(both, batch_size=2)))
    assert batch["group"] == ["", "DCM"]


def test_unpacked_files_are_read(acdc_dir: Path) -> None:
    folder = acdc_dir / "training" / "patient001"
    for path in folder.glob("*.nii.gz"):
        nib.save(nib.load(path), path.with_suffix(""))
        path.unlink()
    assert [Path(item["label"]).suffix for item in acdc_datalist(acdc_dir, "train")] == [".nii", ".nii"]


def test_the_archives_test_patients_are_in_no_part(acdc_dir: Path) -> None:
    shutil.copytree(acdc_dir / "training" / "patient017", acdc_dir / "testing" / "patient101")
    assert {item["patient"] for item in acdc_datalist(acdc_dir, "test")} == {"patient017"}


def test_an_own_split_is_followed(acdc_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"train": ["patient017", "patient099"], "val": ["patient001"], "test": []}))
    assert {item["patient"] for item in acdc_datalist(acdc_dir, "train", split_file=path)} == {"patient017"}
    with pytest.raises(
        ValueError, match=r"none of the 3 patients in .*\(patient001; patient015; patient017\) .*own\.json"
    ):
        acdc_datalist(acdc_dir, "test", split_file=path)


def test_what_is_not_there_is_an_error(phantom_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'train'"):
        acdc_datalist(phantom_dir, "trian")
    with pytest.raises(FileNotFoundError, match=r"no folder .*absent; expected that of ACDC, with training/patient001"):
        acdc_datalist(tmp_path / "absent", "train")
    (tmp_path / "patient1").mkdir()
    with pytest.raises(ValueError, match=r"no folder patientNNN in .*training/patient001/patient001_frame01.nii.gz"):
        acdc_datalist(tmp_path, "train")


def unpack(path: Path) -> None:
    """Put the unpacked file beside the packed one."""
    nib.save(nib.load(path), path.with_suffix(""))


@pytest.mark.parametrize(
    ("damaged", "damage", "named", "message"),
    [
        pytest.param("_gt", Path.unlink, "", "its mask patient001_frame01_gt.nii.gz is missing", id="no-mask"),
        pytest.param("", Path.unlink, "_gt", "a mask without its image patient001_frame01.nii.gz", id="no-image"),
        pytest.param("", unpack, "", "is there twice, also as .*patient001_frame01.nii; keep one", id="twice"),
    ],
)
def test_incomplete_frames_are_errors_of_their_part_and_problems_of_the_check(
    acdc_dir: Path, damaged: str, damage: Callable[[Path], None], named: str, message: str
) -> None:
    folder = acdc_dir / "training" / "patient001"
    damage(folder / f"patient001_frame01{damaged}.nii.gz")
    message = f"{folder}/patient001_frame01{named}.nii.gz: {message}"
    with pytest.raises(ValueError, match=rf"{message}.*; `python -m monai_sam2adapter check acdc {acdc_dir}` lists"):
        acdc_datalist(acdc_dir, "train")
    assert len(acdc_datalist(acdc_dir, "val")) == 2
    (problem,) = check_acdc(acdc_dir, progress=False).problems
    assert re.match(message, problem)


class TestCheck:
    def test_good_data_are_counted_and_have_no_problem(self, phantom_dir: Path) -> None:
        report = check_acdc(phantom_dir, progress=False)
        assert report.problems == []
        voxels = np.zeros(4, dtype=int)
        for part in ("train", "val", "test"):
            masks = [np.asarray(nib.load(item["label"]).dataobj) for item in acdc_datalist(phantom_dir, part)]
            slices = sum(array.shape[2] for array in masks)
            assert report.counts[part] == {"patients": 1, "volumes": 2, "slices": slices}
            voxels += sum(np.bincount(array.ravel(), minlength=4) for array in masks)
        np.testing.assert_array_equal(report.voxels, voxels)
        np.testing.assert_array_equal(report.volumes_with_class, [6, 6, 6, 6])

    def test_every_fold_of_an_own_split_is_counted(self, acdc_dir: Path, tmp_path: Path) -> None:
        names = [f"patient{number}" for number in ("001", "015", "017")]
        folds = [{"train": names[:k] + names[k + 1 :], "val": [], "test": [names[k]]} for k in range(2)]
        path = tmp_path / "folds.json"
        path.write_text(json.dumps({"folds": folds}))
        report = check_acdc(acdc_dir, path, progress=False)
        numbers = {"train": 2, "val": 0, "test": 1}
        assert {part: row["patients"] for part, row in report.counts.items()} == {
            f"fold {k} {part}": number for k in range(2) for part, number in numbers.items()
        }
        assert report.problems == [f"{acdc_dir}: no patient of the part 'fold {k} val' of the split" for k in range(2)]
        assert {item["patient"] for item in acdc_datalist(acdc_dir, "test", 1, path)} == {"patient015"}

    def test_patients_without_frames_and_parts_without_patients_are_problems(self, acdc_dir: Path) -> None:
        training = acdc_dir / "training"
        (training / "patient015").rename(training / "patient101")
        for path in (training / "patient017").iterdir():
            path.unlink()
        report = check_acdc(acdc_dir, progress=False)
        assert report.counts["in no part"]["patients"] == 1
        assert report.problems == [
            f"{acdc_dir}: no patient of the part 'val' of the split",
            "patient017: no frame; expected patient017_frameNN.nii.gz and patient017_frameNN_gt.nii.gz",
            "patient101: no frame; expected patient101_frameNN.nii.gz and patient101_frameNN_gt.nii.gz",
        ]
        with pytest.raises(ValueError, match="patient017: no frame"):
            acdc_datalist(acdc_dir, "test")


def test_the_real_sample_is_complete(shared_data: Path) -> None:
    report = check_acdc(shared_data / "acdc", progress=False)
    assert report.problems == []
    for part in ("train", "val", "test"):
        items = acdc_datalist(shared_data / "acdc", part)
        row = report.counts[part]
        assert (row["patients"], row["volumes"]) == (len({item["patient"] for item in items}), len(items))
    assert report.volumes_with_class[0] == len(report.shapes)
    assert all(5 <= spacing[2] <= 10 for spacing in report.spacings)
