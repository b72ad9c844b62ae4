# SPDX-License-Identifier: Apache-2.0
"""DICOM series: told apart, put in order and place, and refused where they are no volume."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from monai.transforms import LoadImage
from pydicom.uid import BasicTextSRStorage, EnhancedMRImageStorage, generate_uid

from monai_sam2adapter.data import DicomGeometry, DicomReader, DicomSeries, VolumeReader

Write = Callable[..., list[Path]]
TILTED = [0.8, 0.6, 0.0, 0.0, 0.0, -1.0]  # rows and columns of an oblique coronal plane


def stack(count: int, step: float = 2.5) -> list[list[float]]:
    return [[10, 20, 5 + step * n] for n in range(count)]


def load(address: Path | str) -> Any:
    return LoadImage(reader=VolumeReader(), ensure_channel_first=True)(address)


def voxels_in_world(paths: list[Path]) -> dict[tuple[float, ...], float]:
    """Value by position (RAS, mm), pixel by pixel from the DICOM standard's equation C.7.6.2.1-1."""
    found = {}
    for path in paths:
        image = pydicom.dcmread(path)
        place = np.array(image.ImagePositionPatient, dtype=float)
        along_row, along_column = np.array(image.ImageOrientationPatient, dtype=float).reshape(2, 3)
        for (row, column), value in np.ndenumerate(image.pixel_array):
            point = place + along_row * image.PixelSpacing[1] * column + along_column * image.PixelSpacing[0] * row
            key = tuple(np.round(point * [-1, -1, 1], 3) + 0.0)
            found[key] = value * image.RescaleSlope + image.RescaleIntercept
    return found


def voxels_of(volume: Any) -> dict[tuple[float, ...], float]:
    affine, values = volume.affine.numpy(), volume[0].numpy()
    return {
        tuple(np.round((affine @ [*index, 1])[:3], 3) + 0.0): float(value) for index, value in np.ndenumerate(values)
    }


class TestPlace:
    @pytest.mark.parametrize("order", [1, -1], ids=["upwards", "downwards"])
    @pytest.mark.parametrize("orientation", [[1, 0, 0, 0, 1, 0], [-1, 0, 0, 0, -1, 0], TILTED])
    def test_each_voxel_lies_where_the_standard_says(
        self, orientation: list[float], order: int, write_dicom: Write, tmp_path: Path
    ) -> None:
        normal = np.cross(orientation[:3], orientation[3:])
        positions = [list([1.0, 2.0, 3.0] + 2.5 * n * normal) for n in range(5)][::order]
        paths = write_dicom(tmp_path, positions, ImageOrientationPatient=orientation)
        assert voxels_of(load(tmp_path)) == voxels_in_world(paths)

    def test_a_tilted_gantry_gives_a_sheared_affine(self, write_dicom: Write, tmp_path: Path) -> None:
        paths = write_dicom(tmp_path, [[0, 1.25 * n, 5 * n] for n in range(4)])
        assert voxels_of(load(tmp_path)) == voxels_in_world(paths)

    def test_one_slice_is_a_volume_as_thick_as_it_says(self, write_dicom: Write, tmp_path: Path) -> None:
        (path,) = write_dicom(tmp_path, stack(1))
        volume = load(path)
        assert volume.shape == (1, 6, 4, 1)
        assert volume.affine[2, 2] == 7
        assert voxels_of(volume) == voxels_in_world([path])

    def test_slopes_that_differ_from_file_to_file_are_kept(self, write_dicom: Write, tmp_path: Path) -> None:
        paths = write_dicom(tmp_path, stack(3))
        for slope, path in zip((1, 0.25, 0.5), paths, strict=True):
            image = pydicom.dcmread(path)
            image.RescaleSlope = slope
            image.save_as(path)
        assert voxels_of(load(tmp_path)) == voxels_in_world(paths)

    def test_a_real_series(self, shared_data: Path) -> None:
        volume = load(shared_data / "ct_sample" / "dicom")
        heads = [pydicom.dcmread(path, stop_before_pixels=True) for path in (shared_data / "ct_sample/dicom").iterdir()]
        heads.sort(key=lambda head: head.ImagePositionPatient[2])
        (x, y, z), spacing = heads[0].ImagePositionPatient, heads[0].PixelSpacing
        step = (heads[-1].ImagePositionPatient[2] - z) / (len(heads) - 1)
        assert volume.shape == (1, heads[0].Columns, heads[0].Rows, len(heads))
        expected = [[-spacing[1], 0, 0, -x], [0, -spacing[0], 0, -y], [0, 0, step, z], [0, 0, 0, 1]]
        np.testing.assert_allclose(volume.affine, np.array(expected, dtype=float), atol=1e-6)
        assert -1100 < volume.min() < -900, "air, in Hounsfield units"


class TestOneFileOfManyFrames:
    @pytest.mark.parametrize("heights", [[0, 1.5, 3], [3, 1.5, 0], [1.5, 0, 3]], ids=["up", "down", "mixed"])
    def test_frames_are_put_in_their_places(self, heights: list[float], write_dicom: Write, tmp_path: Path) -> None:
        path = write_frames(write_dicom, tmp_path, heights)
        volume = load(path)
        assert volume.shape == (1, 6, 4, 3)
        expected = [[-3, 0, 0, -10], [0, -2, 0, -20], [0, 0, 1.5, 0], [0, 0, 0, 1]]
        np.testing.assert_allclose(volume.affine, np.array(expected, dtype=float))
        # the frame at height z holds the value 10 * z
        np.testing.assert_array_equal(volume[0, 0, 0], 2 * 10 * np.array([0, 1.5, 3]) - 7)

    def test_different_slopes_are_refused(self, write_dicom: Write, tmp_path: Path) -> None:
        path = write_frames(write_dicom, tmp_path, [0, 1, 2], slopes=[1, 2, 1])
        with pytest.raises(ValueError, match="different rescale slopes"):
            load(path)


def write_frames(write_dicom: Write, folder: Path, heights: list[float], slopes: list[float] | None = None) -> Path:
    """An enhanced MR file, as scanners write it: what lies where is in nested sequences."""
    (path,) = write_dicom(folder, [[0, 0, 0]])
    image = pydicom.dcmread(path)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
        delattr(image, keyword)
    del image.RescaleIntercept
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    image.Modality, image.NumberOfFrames = "MR", len(heights)
    image.SharedFunctionalGroupsSequence = [
        nested(
            PixelMeasuresSequence={"PixelSpacing": [2, 3], "SliceThickness": 1},
            PlaneOrientationSequence={"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
        )
    ]
    image.PerFrameFunctionalGroupsSequence = [
        nested(
            PlanePositionSequence={"ImagePositionPatient": [10, 20, height]},
            PixelValueTransformationSequence={"RescaleSlope": slope, "RescaleIntercept": -7, "RescaleType": "US"},
        )
        for height, slope in zip(heights, slopes or [2] * len(heights), strict=True)
    ]
    image.PixelData = np.stack([np.full((4, 6), 10 * height) for height in heights]).astype(np.uint16).tobytes()
    image.save_as(path)
    return path


def nested(**sequences: dict[str, Any]) -> pydicom.Dataset:
    group = pydicom.Dataset()
    for name, values in sequences.items():
        item = pydicom.Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        setattr(group, name, [item])
    return group


class TestNoVolume:
    @pytest.mark.parametrize(
        ("positions", "message"),
        [
            (stack(3) + stack(6)[4:], r"slices are missing: 5.00 mm between slice 3 and 4, mostly 2.50 mm"),
            (stack(4) + stack(4), "8 slices share their places: it holds several volumes"),
            ([*stack(4), [10, 20, 13.5]], "unevenly, 1.00 to 2.50 mm apart"),
        ],
        ids=["gap", "repeated", "uneven"],
    )
    def test_the_stack_is_refused(
        self, positions: list[list[float]], message: str, write_dicom: Write, tmp_path: Path
    ) -> None:
        write_dicom(tmp_path, positions)
        with pytest.raises(ValueError, match=message):
            load(tmp_path)

    @pytest.mark.parametrize(
        ("tags", "message"),
        [
            ({"ImageOrientationPatient": [0, 1, 0, 0, 0, 1]}, "different orientations"),
            ({"PixelSpacing": [1.0, 3.0]}, r"different pixel spacings, such as \[2.0, 3.0\] and \[1.0, 3.0\]"),
        ],
        ids=["orientation", "spacing"],
    )
    def test_mixed_slices_are_refused(
        self, tags: dict[str, Any], message: str, write_dicom: Write, tmp_path: Path
    ) -> None:
        uid = generate_uid()
        write_dicom(tmp_path, stack(3), SeriesInstanceUID=uid)
        write_dicom(tmp_path, stack(5)[3:], start=3, SeriesInstanceUID=uid, **tags)
        with pytest.raises(ValueError, match=message):
            load(tmp_path)

    def test_slices_without_position_are_refused(self, write_dicom: Write, tmp_path: Path) -> None:
        headers = [pydicom.dcmread(path) for path in write_dicom(tmp_path, stack(3))]
        del headers[1].ImagePositionPatient
        with pytest.raises(ValueError, match="1 of 3 slices have no position"):
            DicomGeometry.of(headers)

    def test_small_rounding_is_accepted(self, write_dicom: Write, tmp_path: Path) -> None:
        headers = [pydicom.dcmread(path) for path in write_dicom(tmp_path, [[0, 0, z] for z in (0, 0.7, 1.3, 2)])]
        np.testing.assert_allclose(DicomGeometry.of(headers).affine[2, 2], 2 / 3)

    def test_colors_and_damaged_files_are_named(self, write_dicom: Write, tmp_path: Path) -> None:
        (color,) = write_dicom(tmp_path, stack(1), SamplesPerPixel=3, PhotometricInterpretation="RGB")
        with pytest.raises(ValueError, match=r"im0 cannot be read: it has colors \(RGB\)"):
            load(color)
        color.write_bytes(color.read_bytes()[:140])
        with pytest.raises(ValueError, match=r"im0 cannot be read"):
            load(color)


class TestSeries:
    def test_a_folder_with_one_is_its_address(self, write_dicom: Write, tmp_path: Path) -> None:
        paths = write_dicom(tmp_path, stack(3))
        (series,) = DicomSeries.find(tmp_path)
        assert series.address == str(tmp_path)
        assert series.files == tuple(paths)
        assert (series.number, series.description) == ("3", "Body 3.0")

    def test_several_are_told_apart(self, write_dicom: Write, tmp_path: Path) -> None:
        write_dicom(tmp_path, stack(3), SeriesNumber=12, SeriesInstanceUID="1.2.3")
        write_dicom(tmp_path, stack(4, 1.5), prefix="b", SeriesNumber=4, SeriesInstanceUID="1.2.4")
        found = DicomSeries.find(tmp_path)
        assert [series.address for series in found] == [f"{tmp_path}#series=1.2.4", f"{tmp_path}#series=1.2.3"]
        assert [load(series.address).shape[-1] for series in found] == [4, 3]
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
        write_dicom(tmp_path, stack(2), prefix="scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
        (report,) = write_dicom(tmp_path, stack(1), prefix="report", Modality="SR")
        text = pydicom.dcmread(report)
        text.file_meta.MediaStorageSOPClassUID = BasicTextSRStorage
        del text.Rows, text.Columns, text.PixelData
        text.save_as(report)
        (tmp_path / "readme.txt").write_text("no DICOM")
        (tmp_path / ".hidden").write_bytes((tmp_path / "im0").read_bytes())
        assert [series.address for series in DicomSeries.find(tmp_path)] == [str(tmp_path)]
        log = " ".join(caplog.messages)
        assert all(word in log for word in ("1 DICOM files: no image (SR)", "(SEG)", "2 DICOM files: scout images"))

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
        [("im9", b""), ("1.2.840.9", b""), ("im9.dcm", bytes(500)), ("im9.IMA", b"")],
        ids=["empty", "empty, named by a UID", "zeros", "upper case"],
    )
    def test_a_file_named_as_dicom_that_is_none_is_damaged(
        self, name: str, content: bytes, write_dicom: Write, tmp_path: Path
    ) -> None:
        write_dicom(tmp_path, stack(3))
        (tmp_path / name).write_bytes(content)
        (tmp_path / "notes.txt").touch()
        with pytest.raises(ValueError, match=f"{name} is damaged"):
            load(tmp_path)

    def test_beside_several_series_a_damaged_file_is_one_of_its_own(self, write_dicom: Write, tmp_path: Path) -> None:
        write_dicom(tmp_path, stack(3))
        write_dicom(tmp_path, stack(4), prefix="b")
        (tmp_path / "c.dcm").touch()
        found = [series for series in DicomSeries.find(tmp_path) if "#series=" not in series.address]
        assert [series.address for series in found] == [str(tmp_path / "c.dcm")]
        with pytest.raises(ValueError, match=r"c\.dcm is not a DICOM file, or is damaged"):
            load(found[0].address)

    def test_what_is_left_out_without_being_dicom_is_counted(
        self, write_dicom: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_dicom(tmp_path / "a", stack(3))
        (tmp_path / "a" / "README").write_text("scanned on a Monday" * 10)
        (tmp_path / "b").mkdir()
        for name in ("x.dcm", "y.ima", "README"):
            (tmp_path / "b" / name).touch()
        assert len(DicomSeries.find(tmp_path / "a")) == 1
        assert DicomSeries.find(tmp_path / "b") == []
        assert [
            record.getMessage().partition(": ")[2] for record in caplog.records if record.levelname == "WARNING"
        ] == [
            "left out 1 files that are not DICOM: README",
            "left out 2 files that are not DICOM: x.dcm, y.ima",
        ]

    @pytest.mark.parametrize("extension", [".dcm", ".ima", ""])
    def test_files_without_preamble_are_read(self, extension: str, write_dicom: Write, tmp_path: Path) -> None:
        paths = write_dicom(tmp_path / "new", stack(3))
        (tmp_path / "old").mkdir()
        for path in paths:
            image = pydicom.dcmread(path)
            bare = pydicom.Dataset({element.tag: element for element in image})
            bare.save_as(tmp_path / "old" / f"{path.name}{extension}", implicit_vr=True, little_endian=True)
        old = load(tmp_path / "old")
        assert voxels_of(old) == voxels_in_world(paths)
        assert voxels_of(load(tmp_path / "old" / f"im0{extension}")) == voxels_in_world(paths[:1])

    def test_other_files_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("no DICOM")
        with pytest.raises(ValueError, match=r"a\.txt is not a DICOM file"):
            DicomSeries.open(tmp_path / "a.txt")
        with pytest.raises(FileNotFoundError, match="no file or folder"):
            DicomSeries.open(tmp_path / "b")
        assert not DicomReader().verify_suffix(tmp_path / "b")
