# SPDX-License-Identifier: Apache-2.0
"""DICOM series: told apart in a folder, each header read once, and carried from finding to writing."""

from __future__ import annotations

import copy
import logging
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
import SimpleITK as sitk
from monai.data import DataLoader, decollate_batch
from monai.transforms import LoadImage, LoadImaged
from pydicom.uid import BasicTextSRStorage, CTImageStorage, SecondaryCaptureImageStorage

from monai_sam2adapter.data import CaseDataset, DicomFolder, DicomSeries, VolumeReader, find_images

Write = Callable[..., list[Path]]


def stack(count: int) -> list[list[float]]:
    return [[10, 20, 2.5 * n] for n in range(count)]


def load(address: Path | str) -> Any:
    return LoadImage(reader=VolumeReader(), ensure_channel_first=True, expanduser=False)(address)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often pydicom has read a header and SimpleITK pixels."""
    counts = {"headers": 0, "pixels": 0}

    def count(module: Any, name: str, what: str) -> None:
        function = getattr(module, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            counts[what] += 1
            return function(*args, **kwargs)

        monkeypatch.setattr(module, name, counted)

    count(pydicom, "dcmread", "headers")
    count(sitk, "ReadImage", "pixels")
    return counts


class TestOneReading:
    @pytest.fixture
    def study(self, write_dicom: Write, tmp_path: Path) -> Path:
        for number in range(1, 5):
            write_dicom(tmp_path / "ct", stack(50), prefix=f"s{number}_", SeriesNumber=number)
        return tmp_path / "ct"

    def test_a_study_costs_each_header_once(self, study: Path, reads: dict[str, int]) -> None:
        cases = find_images(study, output_dir=study / "out", skip_existing=True)
        assert reads == {"headers": 200, "pixels": 0}
        dataset = CaseDataset(
            cases, LoadImaged("image", reader="monai_sam2adapter.data.VolumeReader", expanduser=False)
        )
        assert [item["image"].shape for item in dataset] == [(6, 4, 50)] * 4
        assert reads == {"headers": 200, "pixels": 200}

    def test_a_list_of_series_of_one_folder_does_too(self, study: Path, reads: dict[str, int]) -> None:
        names = [str(series) for series in DicomFolder(study).series()]
        reads["headers"] = 0
        assert [item["image"] for item in find_images(names)] == names
        assert reads["headers"] == 200

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_a_series_travels_with_its_volume(self, num_workers: int, write_dicom: Write, tmp_path: Path) -> None:
        write_dicom(tmp_path, stack(3), prefix="a", SeriesInstanceUID="1.2")
        write_dicom(tmp_path, stack(2), prefix="b", SeriesInstanceUID="1.3")
        load_image = LoadImaged("image", reader=VolumeReader(), ensure_channel_first=True, expanduser=False)
        dataset = CaseDataset(find_images(tmp_path), load_image)
        for item, count in zip(DataLoader(dataset, batch_size=1, num_workers=num_workers), (3, 2), strict=True):
            (case,) = decollate_batch(item)
            series = case["image"].meta["dicom_series"]
            assert isinstance(series, DicomSeries)
            assert len(series.files) == count
            assert case["file"] == case["image"].meta["filename_or_obj"] == series

    def test_copies_keep_the_files(self, write_dicom: Write, tmp_path: Path) -> None:
        write_dicom(tmp_path, stack(3))
        (series,) = DicomFolder(tmp_path).series()
        assert copy.deepcopy(series) is series
        again = pickle.loads(pickle.dumps(series))
        assert (again, again.files, type(again)) == (series, series.files, DicomSeries)
        assert load(again).shape == (1, 6, 4, 3)


class TestFolder:
    def test_one_series_has_the_name_of_its_folder(self, write_dicom: Write, tmp_path: Path) -> None:
        paths = write_dicom(tmp_path, stack(3))
        (series,) = DicomFolder(tmp_path).series()
        assert series == str(tmp_path)
        assert series.files == tuple(paths)
        assert (series.number, series.description) == ("3", "Body 3.0")

    def test_several_are_told_apart(self, write_dicom: Write, tmp_path: Path) -> None:
        write_dicom(tmp_path, stack(3), SeriesNumber=12, SeriesInstanceUID="1.2.3")
        write_dicom(tmp_path, stack(4), prefix="b", SeriesNumber=4, SeriesInstanceUID="1.2.4")
        found = DicomFolder(tmp_path).series()
        assert found == [f"{tmp_path}#series=1.2.4", f"{tmp_path}#series=1.2.3"]
        assert [load(series).shape[-1] for series in found] == [4, 3]
        assert [load(str(series)).shape[-1] for series in found] == [4, 3], "as a user names them"
        with pytest.raises(ValueError, match=r"must hold one DICOM series.*#series=1\.2\.4, .*#series=1\.2\.3"):
            DicomSeries.open(tmp_path)
        with pytest.raises(FileNotFoundError, match=r"no series '1\.2\.5'"):
            DicomSeries.open(f"{tmp_path}#series=1.2.5")

    def test_what_is_no_image_is_left_out_with_a_word(
        self, write_dicom: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        write_dicom(tmp_path, stack(3))
        write_dicom(tmp_path, stack(1), prefix="seg", Modality="SEG")
        scouts = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesInstanceUID": "1.2"}
        write_dicom(tmp_path, stack(2), prefix="scout", **scouts)
        (report,) = write_dicom(tmp_path, stack(1), prefix="report", Modality="SR")
        text = pydicom.dcmread(report)
        text.file_meta.MediaStorageSOPClassUID = BasicTextSRStorage
        del text.Rows, text.Columns, text.PixelData
        text.save_as(report)
        (tmp_path / "readme.txt").write_text("no DICOM")
        (tmp_path / ".hidden").write_bytes((tmp_path / "im0").read_bytes())
        assert DicomFolder(tmp_path).series() == [str(tmp_path)]
        log = " ".join(caplog.messages)
        assert all(
            word in log for word in ("left out 4 DICOM files", "1 without an image (SR)", "(SEG)", "2 scout images")
        )
        assert len(DicomSeries.open(f"{tmp_path}#series=1.2").files) == 2, "asked for by name"

    @pytest.mark.parametrize(
        ("tags", "count", "reason"),
        [
            ({"SOPClassUID": SecondaryCaptureImageStorage}, 2, "pictures of a screen (secondary captures)"),
            ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, 1, "pictures of a screen (secondary captures)"),
            ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, 1, "pictures with colors"),
            ({"Modality": "OT"}, 1, "pictures without a place in the patient"),
            ({"Modality": "RTDOSE"}, 1, "without an image (RTDOSE)"),
        ],
        ids=["captures", "screen", "colors", "picture", "dose"],
    )
    def test_what_is_no_volume_beside_one_is_left_out_in_one_line(
        self,
        tags: dict[str, Any],
        count: int,
        reason: str,
        write_dicom: Write,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO)
        write_dicom(tmp_path, stack(3))
        for path in write_dicom(tmp_path, stack(count), prefix="other", SeriesDescription="Dose", **tags):
            image = pydicom.dcmread(path)
            del image.ImagePositionPatient
            image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = tags.get("SOPClassUID", CTImageStorage)
            image.save_as(path)
        assert [len(series.files) for series in DicomFolder(tmp_path).series()] == [3]
        (line,) = [text for text in caplog.messages if "left out" in text]
        assert f"left out {count} DICOM files that are no volume: {count} {reason}" in line

    def test_scouts_of_three_planes_are_known_by_their_name(self, write_dicom: Write, tmp_path: Path) -> None:
        write_dicom(tmp_path, stack(3))
        for number, plane in enumerate(([1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1])):
            tags = {"SeriesInstanceUID": "1.2", "SeriesDescription": "t1_localizer", "ImageOrientationPatient": plane}
            write_dicom(tmp_path, stack(1), start=number, prefix="scout", **tags)
        assert [len(series.files) for series in DicomFolder(tmp_path).series()] == [3]

    def test_copies_are_left_out_with_a_word(
        self, write_dicom: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        paths = write_dicom(tmp_path, stack(4))
        shutil.copy(paths[2], tmp_path / "im2 (1)")
        assert load(tmp_path).shape == (1, 6, 4, 4)
        assert "left out 1 copies of DICOM files: im2 (1) of im2" in caplog.text
        other = pydicom.dcmread(paths[3])
        other.PixelData = bytes(len(other.PixelData))
        other.save_as(tmp_path / "im3 (1)")
        with pytest.raises(ValueError, match=r"2 of its 5 slices share .*or slices twice, such as im3 and im3 \(1\)"):
            load(tmp_path)

    def test_what_is_left_out_without_being_dicom_is_counted(
        self, write_dicom: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_dicom(tmp_path / "a", stack(3))
        (tmp_path / "a" / "README").write_text("scanned on a Monday" * 10)
        (tmp_path / "b").mkdir()
        for name in ("x.dcm", "y.ima", "README"):
            (tmp_path / "b" / name).touch()
        assert len(DicomFolder(tmp_path / "a").series()) == 1
        assert DicomFolder(tmp_path / "b").series() == []
        warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert [text.partition(": ")[2] for text in warnings] == [
            "left out 1 files that are not DICOM: README",
            "left out 2 files that are not DICOM: x.dcm, y.ima",
        ]


class TestDamage:
    @pytest.mark.parametrize("length", [0, 100, 150, 200, 500, 800])
    def test_a_damaged_file_is_not_passed_over(self, length: int, write_dicom: Write, tmp_path: Path) -> None:
        paths = write_dicom(tmp_path, stack(3))
        paths[-1].write_bytes(paths[-1].read_bytes()[:length])
        for address in (tmp_path, f"{tmp_path}#series={pydicom.dcmread(paths[0]).SeriesInstanceUID}"):
            with pytest.raises(ValueError, match="cannot be read: im2 is damaged"):
                load(address)
        with pytest.raises(ValueError, match=r"im2 (cannot be read|is not a DICOM file, or is damaged)"):
            load(paths[-1])

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            *(("im9", b""), ("1.2.840.9", b""), ("1.2.840.9", bytes(20)), ("im9.dcm", bytes(500)), ("im9.IMA", b"")),
            *(("im9", b"404 not found"), ("im9", b"<html>" + b"error " * 50), ("A9", bytes(100))),
        ],
        ids=["empty", "UID, empty", "UID, short", "zeros", "upper case", "text", "long text", "short"],
    )
    def test_a_file_named_as_dicom_that_is_none_is_damaged(
        self, name: str, content: bytes, write_dicom: Write, tmp_path: Path
    ) -> None:
        write_dicom(tmp_path, stack(3))
        (tmp_path / name).write_bytes(content)
        (tmp_path / "notes.txt").touch()
        with pytest.raises(ValueError, match=f"{name} is damaged"):
            load(tmp_path)

    @pytest.mark.parametrize("extension", ["", ".dcm"])
    @pytest.mark.parametrize(
        ("name", "content"),
        [("VERSION", b"1\n"), ("VERSION", b""), ("README", b"scan"), ("v2", b"2"), ("LICENSE", b"x" * 500)],
    )
    def test_a_file_that_is_named_otherwise_is_left_out_with_a_word(
        self,
        name: str,
        content: bytes,
        extension: str,
        write_dicom: Write,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        for path in write_dicom(tmp_path, stack(3)):
            path.rename(f"{path}{extension}")
        (tmp_path / name).write_bytes(content)
        assert load(tmp_path).shape == (1, 6, 4, 3)
        assert f"left out 1 files that are not DICOM: {name}" in caplog.text

    @pytest.mark.parametrize("keyword", ["NumberOfFrames", "Rows", "BitsStored"])
    def test_a_header_that_cannot_be_read_is_damaged(self, keyword: str, write_dicom: Write, tmp_path: Path) -> None:
        paths = write_dicom(tmp_path, stack(3), NumberOfFrames="1")
        image = pydicom.dcmread(paths[-1])
        image[keyword].VR, image[keyword].value = "LO", "abc"
        image.save_as(paths[-1])
        assert len(find_images(tmp_path)) == 1
        with pytest.raises(ValueError, match="im2 is damaged"):
            load(tmp_path)

    def test_beside_several_series_it_is_one_of_its_own(self, write_dicom: Write, tmp_path: Path) -> None:
        write_dicom(tmp_path, stack(3))
        write_dicom(tmp_path, stack(4), prefix="b")
        (tmp_path / "c.dcm").touch()
        (damaged,) = [series for series in DicomFolder(tmp_path).series() if "#series=" not in series]
        assert damaged == str(tmp_path / "c.dcm")
        with pytest.raises(ValueError, match=r"c\.dcm is damaged: it has no image"):
            load(damaged)
        with pytest.raises(ValueError, match=r"c\.dcm is not a DICOM file, or is damaged"):
            load(str(damaged))

    def test_other_files_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("no DICOM")
        with pytest.raises(ValueError, match=r"a\.txt is not a DICOM file"):
            DicomSeries.open(tmp_path / "a.txt")
        with pytest.raises(FileNotFoundError, match="no file or folder"):
            DicomSeries.open(tmp_path / "b")
