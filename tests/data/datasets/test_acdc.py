# SPDX-License-Identifier: Apache-2.0
"""The list of ACDC's frames: layouts that are read, and messages for those that are not."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import nibabel as nib
import pytest
from monai.data import DataLoader, Dataset

from monai_sam2adapter.data import acdc_datalist


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


def test_every_part_of_the_split_has_other_patients(phantom_dir: Path) -> None:
    patients = [{item["patient"] for item in acdc_datalist(phantom_dir, part)} for part in ("train", "val", "test")]
    assert patients == [{"patient001"}, {"patient015"}, {"patient017"}]


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


def test_a_misspelt_split_is_answered_with_the_names(phantom_dir: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'train'"):
        acdc_datalist(phantom_dir, "trian")


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*absent; expected that of ACDC, with training/patient001"):
        acdc_datalist(tmp_path / "absent", "train")


def test_a_folder_without_patients_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "patient1").mkdir()
    with pytest.raises(ValueError, match=r"no folder patientNNN in .*training/patient001/patient001_frame01.nii.gz"):
        acdc_datalist(tmp_path, "train")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param("patient001_frame01_gt.nii.gz", "its mask patient001_frame01_gt.nii.gz is missing", id="no-mask"),
        pytest.param("patient001_frame01.nii.gz", "a mask without its image patient001_frame01", id="no-image"),
        pytest.param("*.nii.gz", "patient001: no frame", id="no-frame"),
    ],
)
def test_incomplete_patients_are_errors_of_their_part_only(acdc_dir: Path, damage: str, message: str) -> None:
    for path in (acdc_dir / "training" / "patient001").glob(damage):
        path.unlink()
    with pytest.raises(ValueError, match=message):
        acdc_datalist(acdc_dir, "train")
    assert len(acdc_datalist(acdc_dir, "val")) == 2


def test_a_file_both_packed_and_not_is_an_error(acdc_dir: Path) -> None:
    path = acdc_dir / "training" / "patient001" / "patient001_frame01.nii.gz"
    nib.save(nib.load(path), path.with_suffix(""))
    with pytest.raises(
        ValueError, match=r"patient001_frame01\.nii\.gz: is there twice, also as .*patient001_frame01\.nii;"
    ):
        acdc_datalist(acdc_dir, "train")


def test_every_patient_of_the_real_sample_is_in_one_part_with_two_frames(shared_data: Path) -> None:
    parts = [acdc_datalist(shared_data / "acdc", part) for part in ("train", "val", "test")]
    frames = Counter(item["patient"] for part in parts for item in part)
    assert frames.keys() == {path.name for path in (shared_data / "acdc" / "training").glob("patient*")}
    assert set(frames.values()) == {2}
