# SPDX-License-Identifier: Apache-2.0
"""DICOM series whose files lie in several folders: one volume, or refused with the folders; others stay apart."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from monai_sam2adapter.data import DicomSeries, VolumeReader, find_images
from monai_sam2adapter.data.datasets.layouts import find_labeled_cases

Write = Callable[..., list[Path]]
STACK = [[10, 20, 2.5 * n] for n in range(6)]
SAME = {"StudyInstanceUID": "1.2", "FrameOfReferenceUID": "1.3"}


def read(image: Any) -> tuple[np.ndarray, np.ndarray]:
    array, meta = VolumeReader().get_data((image,))
    return array, np.asarray(meta["affine"])


def move(paths: list[Path], folders: list[str]) -> None:
    for path, folder in zip(paths, folders, strict=True):
        target = path.parent / folder
        target.mkdir(parents=True, exist_ok=True)
        path.rename(target / path.name)


class TestOneVolume:
    @pytest.mark.parametrize(
        "folders",
        [
            ["p1"] * 2 + ["p2"] * 4,
            ["p1", "p2"] * 3,
            [f"d{number}" for number in range(6)],
            [".", ".", "sub", "sub", "sub/sub", "."],
            ["a/b/1"] * 3 + ["a/c/1"] * 3,
        ],
        ids=["halves", "in turn", "one a file", "nested", "deep"],
    )
    def test_its_files_are_joined(self, folders: list[str], write_dicom: Write, tmp_path: Path) -> None:
        whole, study = tmp_path / "whole", tmp_path / "patient" / "study"
        paths = write_dicom(study, STACK, SeriesInstanceUID="1.4")
        shutil.copytree(study, whole)
        move(paths, folders)
        top = study / "a" if folders[0].startswith("a") else study
        array, affine = read(str(whole))
        for source in (tmp_path / "patient", study):
            (item,) = find_images(source)
            assert item == {"image": f"{top}#series=1.4", "case": top.name}
            for address in (item["image"], str(item["image"])):
                joined = read(address)
                np.testing.assert_array_equal(joined[0], array)
                np.testing.assert_array_equal(joined[1], affine)
        np.testing.assert_array_equal(read(str(study))[0], array)
        assert [found["image"] for found in find_images(str(item["image"]))] == [item["image"]]

    def test_each_header_is_read_once(
        self, write_dicom: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        move(write_dicom(tmp_path, STACK), ["a", "b"] * 3)
        files: list[Path] = []
        dcmread = pydicom.dcmread
        monkeypatch.setattr(pydicom, "dcmread", lambda path, **kwargs: files.append(path) or dcmread(path, **kwargs))
        (item,) = find_images(tmp_path)
        read(item["image"])
        assert len(files) == len(set(files)) == 6

    def test_a_linked_folder_is_joined(self, write_dicom: Write, tmp_path: Path) -> None:
        scan, store = tmp_path / "scan", tmp_path / "store"
        write_dicom(scan, STACK[:3], SeriesInstanceUID="1.4", **SAME)
        write_dicom(store, STACK[3:], start=3, SeriesInstanceUID="1.4", **SAME)
        (scan / "rest").symlink_to(store, target_is_directory=True)
        (item,) = find_images(scan)
        assert read(item["image"])[0].shape == (6, 4, 6)

    def test_copies_in_another_folder_are_left_out_with_a_word(
        self, write_dicom: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_dicom(tmp_path, STACK[:3])
        shutil.copytree(tmp_path, tmp_path / "backup")
        (item,) = find_images(tmp_path)
        assert read(item["image"])[0].shape == (6, 4, 3)
        assert "left out 3 copies of DICOM files: backup/im0 of im0, " in caplog.text

    def test_training_reads_it_as_inference_does(self, write_dicom: Write, tmp_path: Path) -> None:
        move(write_dicom(tmp_path / "images" / "a", STACK), ["p1"] * 3 + ["p2"] * 3)
        (tmp_path / "labels").mkdir()
        (tmp_path / "labels" / "a.nii.gz").touch()
        (case,) = find_labeled_cases(tmp_path, "volume").all_cases
        assert read(case["image"])[0].shape == (6, 4, 6)


class TestApart:
    def test_series_of_their_own_folders_stay(self, write_dicom: Write, tmp_path: Path) -> None:
        for name in ("a", "b"):
            write_dicom(tmp_path / name, STACK[:3], **SAME)
        assert [item["case"] for item in find_images(tmp_path)] == ["a", "b"]

    def test_two_that_share_folders_are_two(self, write_dicom: Write, tmp_path: Path) -> None:
        for number, name in ((1, "soft"), (2, "lung")):
            tags = {"SeriesNumber": number, "SeriesDescription": name, "SeriesInstanceUID": f"1.4.{number}"}
            paths = write_dicom(tmp_path / "ct", STACK[: 3 + number], prefix=name, **tags)
            move(paths, ["p1", "p2"] * 2 + ["p1"] * (number - 1))
        items = find_images(tmp_path)
        assert [item["case"] for item in items] == ["ct_1_soft", "ct_2_lung"]
        assert [read(item["image"])[0].shape[2] for item in items] == [4, 5]

    def test_one_that_lies_in_one_folder_keeps_its_name(self, write_dicom: Write, tmp_path: Path) -> None:
        move(write_dicom(tmp_path / "ct", STACK), ["p1", "p2"] * 3)
        write_dicom(tmp_path / "ct" / "p1", STACK[:3], prefix="other", SeriesDescription="other")
        assert [item["case"] for item in find_images(tmp_path)] == ["ct", "p1"]

    @pytest.mark.parametrize("tags", [{"SeriesInstanceUID": ""}, {"SeriesInstanceUID": "1.4", "NumberOfFrames": 2}])
    def test_what_says_no_series_or_is_one_by_itself_is_not_joined(
        self, tags: dict[str, Any], write_dicom: Write, tmp_path: Path
    ) -> None:
        for number, name in enumerate(("a", "b")):
            write_dicom(tmp_path / name, STACK[number : number + 1], **SAME, **tags)
        assert [item["case"] for item in find_images(tmp_path)] == ["a", "b"]


class TestRefused:
    @pytest.mark.parametrize(
        ("tags", "start", "message"),
        [
            ({"PatientID": "B"}, 3, "differ in PatientID: another one in b/im3"),
            ({"FrameOfReferenceUID": "1.5"}, 3, "differ in FrameOfReferenceUID: mostly 1.3, but 1.5 in b/im3"),
            ({"StudyInstanceUID": "1.5"}, 3, "differ in StudyInstanceUID"),
            ({"RescaleSlope": None}, 3, "differ in RescaleSlope: mostly 2(.0)?, but none in b/im3"),
            ({"PixelSpacing": [2, 4]}, 3, "different pixel spacings"),
            ({}, 0, "share their places: .* such as a/im0 and b/im0"),
            ({}, 5, "slices are missing"),
        ],
        ids=["patient", "frame", "study", "slope", "spacing", "twice", "gap"],
    )
    def test_what_does_not_fit_is_named_with_its_folders(
        self, tags: dict[str, Any], start: int, message: str, write_dicom: Write, tmp_path: Path
    ) -> None:
        uids = {"SeriesInstanceUID": "1.4", **SAME}
        positions = [[10, 20, 2.5 * n] for n in range(9)]
        write_dicom(tmp_path / "a", positions[:3], **uids)
        write_dicom(tmp_path / "b", positions[start : start + 3], start=start, **{**uids, **tags})
        (item,) = find_images(tmp_path)
        with pytest.raises(ValueError, match=rf"{tmp_path}.*{message}.*its files lie in the folders a, b;"):
            read(item["image"])
        for name in ("a", "b"):
            assert read(str(tmp_path / name))[0].shape == (6, 4, 3), "each by itself is a volume"

    def test_a_damaged_file_is_not_passed_over(self, write_dicom: Write, tmp_path: Path) -> None:
        paths = write_dicom(tmp_path, STACK)
        paths[-1].write_bytes(paths[-1].read_bytes()[:500])
        move(paths, ["p1"] * 3 + ["p2"] * 3)
        (item,) = find_images(tmp_path)
        with pytest.raises(ValueError, match="p2/im5 is damaged"):
            read(item["image"])

    def test_an_address_of_several_series_is_not_clear(self, write_dicom: Write, tmp_path: Path) -> None:
        for name in ("a", "b"):
            write_dicom(tmp_path / name, STACK[:3])
        with pytest.raises(ValueError, match=rf"must hold one DICOM series .* {tmp_path}/[ab], {tmp_path}/[ab]"):
            DicomSeries.open(tmp_path)

    def test_parts_that_are_listed_one_by_one_are_told(
        self, write_dicom: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        move(write_dicom(tmp_path, STACK), ["p1", "p2"] * 3)
        assert len(find_images([tmp_path / "p1", tmp_path / "p2"])) == 2
        (line,) = [text for text in caplog.messages if "are parts of one DICOM series" in text]
        assert all(str(tmp_path / name) in line for name in ("p1", "p2"))
