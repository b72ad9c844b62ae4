# SPDX-License-Identifier: Apache-2.0
"""DICOM volumes: slices put in order and place, and refused where they make up none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from monai.transforms import LoadImage
from pydicom.uid import EnhancedMRImageStorage, NuclearMedicineImageStorage

from monai_sam2adapter.data import DicomGeometry, DicomReader, VolumeReader, find_images

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
    @pytest.mark.parametrize(
        ("orientation", "step"),
        [
            ([1, 0, 0, 0, 1, 0], [0, 0, 2.5]),
            ([-1, 0, 0, 0, -1, 0], [0, 0, 2.5]),
            (TILTED, list(2.5 * np.cross(TILTED[:3], TILTED[3:]))),
            ([1, 0, 0, 0, 1, 0], [0, 1.25, 5]),
        ],
        ids=["axial", "feet-first", "oblique", "tilted-gantry"],
    )
    def test_each_voxel_lies_where_the_standard_says(
        self, orientation: list[float], step: list[float], order: int, write_dicom: Write, tmp_path: Path
    ) -> None:
        positions = [list(np.array([1.0, 2.0, 3.0]) + n * np.array(step)) for n in range(5)][::order]
        paths = write_dicom(tmp_path, positions, ImageOrientationPatient=orientation)
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

    def test_small_rounding_is_accepted(self, write_dicom: Write, tmp_path: Path) -> None:
        headers = [pydicom.dcmread(path) for path in write_dicom(tmp_path, [[0, 0, z] for z in (0, 0.7, 1.3, 2)])]
        np.testing.assert_allclose(DicomGeometry.of(headers).affine[2, 2], 2 / 3)

    @pytest.mark.parametrize("extension", [".dcm", ".ima", ""])
    def test_files_without_preamble_are_read(self, extension: str, write_dicom: Write, tmp_path: Path) -> None:
        paths = write_dicom(tmp_path / "new", stack(3))
        (tmp_path / "old").mkdir()
        for path in paths:
            bare = pydicom.Dataset({element.tag: element for element in pydicom.dcmread(path)})
            bare.save_as(tmp_path / "old" / f"{path.name}{extension}", implicit_vr=True, little_endian=True)
        assert voxels_of(load(tmp_path / "old")) == voxels_in_world(paths)
        assert voxels_of(load(tmp_path / "old" / f"im0{extension}")) == voxels_in_world(paths[:1])

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
        for address in (path, tmp_path):
            volume = load(address)
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


class TestNuclearMedicine:
    @pytest.mark.parametrize("step", [4.0, -4.0, 2.5, -2.5])
    @pytest.mark.parametrize("orientation", [[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [-1, 0, 0, 0, 1, 0]])
    def test_frames_lie_where_simpleitk_puts_them(
        self, orientation: list[int], step: float, write_dicom: Write, tmp_path: Path
    ) -> None:
        path = write_spect(write_dicom, tmp_path, ImageOrientationPatient=orientation, SpacingBetweenSlices=step)
        expected = sitk.ReadImage(str(path), sitk.sitkFloat32)
        for address in (path, tmp_path):
            volume = load(address)
            np.testing.assert_array_equal(volume[0], sitk.GetArrayFromImage(expected).transpose(2, 1, 0))
            for index in np.ndindex(*volume.shape[1:]):
                point = np.array(expected.TransformIndexToPhysicalPoint(index)) * [-1, -1, 1]
                np.testing.assert_allclose((volume.affine.numpy() @ [*index, 1])[:3], point, atol=1e-5)

    @pytest.mark.parametrize(
        ("tags", "message"),
        [
            ({"SpacingBetweenSlices": None}, "does not say how far its 3 slices are apart"),
            ({"ImageType": ["ORIGINAL", "PRIMARY", "DYNAMIC", "EMISSION"]}, r"3 frames are not the slices .*DYNAMIC"),
            ({"TimeSlotVector": [1, 2, 3]}, r"3 frames are not the slices .*TimeSlotVector"),
            ({"ImagePositionPatient": None}, "3 of 3 slices have no position"),
        ],
        ids=["distance", "projections", "gated", "position"],
    )
    def test_frames_that_are_no_volume_are_refused(
        self, tags: dict[str, Any], message: str, write_dicom: Write, tmp_path: Path
    ) -> None:
        with pytest.raises(ValueError, match=message):
            load(write_spect(write_dicom, tmp_path, **tags))


def write_spect(write_dicom: Write, folder: Path, **tags: Any) -> Path:
    """Nuclear medicine: the place of the first frame is that of the detector, the distance has a sign."""
    tags = {
        **{"Modality": "NM", "ImageType": ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"], "NumberOfFrames": 3},
        **{"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [-60, -50, 200]},
        **{"SpacingBetweenSlices": 4, **tags},
    }
    place = {key: tags.pop(key) for key in ("ImageOrientationPatient", "ImagePositionPatient")}
    (path,) = write_dicom(folder, [[0, 0, 0]], RescaleIntercept=0, **tags)
    image = pydicom.dcmread(path)
    del image.ImagePositionPatient, image.ImageOrientationPatient
    image.DetectorInformationSequence = [pydicom.Dataset()]
    for keyword, value in place.items():
        setattr(image.DetectorInformationSequence[0], keyword, value)
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = NuclearMedicineImageStorage
    image.PixelData = np.arange(72, dtype=np.uint16).tobytes()
    image.save_as(path)
    return path


class TestWhatIsNotSaid:
    @pytest.mark.parametrize("name", ["ImagerPixelSpacing", "NominalScannedPixelSpacing"])
    @pytest.mark.parametrize("count", [1, 3])
    def test_spacing_at_the_detector_is_taken_with_a_word(
        self, name: str, count: int, write_dicom: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_dicom(tmp_path, stack(count), PixelSpacing=None, **{name: [0.4, 0.3]})
        np.testing.assert_allclose(np.diag(load(tmp_path).affine)[:2], [-0.3, -0.4])
        assert f"{tmp_path} has no PixelSpacing; taken: {name}, 0.4 x 0.3 mm, that at the detector" in caplog.text

    def test_the_spacing_in_the_patient_goes_first(
        self, write_dicom: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_dicom(tmp_path, stack(2), ImagerPixelSpacing=[0.4, 0.3])
        np.testing.assert_allclose(np.diag(load(tmp_path).affine)[:2], [-3, -2])
        assert "taken" not in caplog.text

    @pytest.mark.parametrize(
        ("tags", "message"),
        [
            ({"PixelSpacing": None}, r"say nothing of the distance of their pixels \(PixelSpacing\)"),
            ({"PixelSpacing": [0, 0]}, "PixelSpacing is .*expected two positive distances"),
        ],
    )
    @pytest.mark.parametrize("count", [1, 3])
    def test_what_has_a_place_needs_a_spacing(
        self, count: int, tags: dict[str, Any], message: str, write_dicom: Write, tmp_path: Path
    ) -> None:
        write_dicom(tmp_path, stack(count), **tags)
        with pytest.raises(ValueError, match=message):
            load(tmp_path)

    def test_a_picture_is_read_with_a_word_for_each(
        self, write_dicom: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        nothing = dict.fromkeys(("PixelSpacing", "SliceThickness", "ImageOrientationPatient"))
        (path,) = write_dicom(tmp_path, stack(1), Modality="CR", **nothing)
        np.testing.assert_array_equal(load(path).affine, np.diag([-1, -1, 1, 1]))
        for what in ("the distance of its pixels", "its thickness", "its place in the patient"):
            assert f"says nothing of {what}; taken: " in caplog.text

    @pytest.mark.parametrize(("modality", "told"), [("CT", True), ("MR", False)])
    def test_ct_without_a_unit_is_told(
        self, modality: str, told: bool, write_dicom: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        for path in write_dicom(tmp_path, stack(2), Modality=modality):
            image = pydicom.dcmread(path)
            del image.RescaleSlope, image.RescaleIntercept
            image.save_as(path)
        assert load(tmp_path).max() == 123
        assert ("is CT without RescaleIntercept; taken: its values as they are" in caplog.text) == told


class TestInverted:
    def test_white_as_0_is_read_as_simpleitk_does(self, write_dicom: Write, tmp_path: Path) -> None:
        (path,) = write_dicom(tmp_path, stack(1), Modality="DX", PhotometricInterpretation="MONOCHROME1")
        expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path), sitk.sitkFloat32)).transpose(2, 1, 0)
        np.testing.assert_array_equal(load(path)[0], expected)
        assert expected[0, 0, 0] == 2 * 65535 - 1000, "black is low"

    @pytest.mark.parametrize("modality", ["CT", "PT", "NM"])
    def test_values_with_a_unit_are_refused(self, modality: str, write_dicom: Write, tmp_path: Path) -> None:
        write_dicom(tmp_path, stack(2), Modality=modality, PhotometricInterpretation="MONOCHROME1")
        with pytest.raises(ValueError, match=f"MONOCHROME1, which leaves open whether the values of {modality} are"):
            load(tmp_path)


class TestNoVolume:
    @pytest.mark.parametrize(
        ("positions", "message"),
        [
            (stack(3) + stack(6)[4:], r"slices are missing: 5.00 mm between slice 3 and 4, mostly 2.50 mm"),
            (stack(4) + stack(4), r"8 slices share their places: it holds several volumes"),
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
            ({"ImagePositionPatient": None}, "2 of 5 slices have no position"),
            ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, r"cannot be read: it has colors \(RGB\)"),
            ({"PhotometricInterpretation": "PALETTE COLOR"}, r"it has colors \(PALETTE COLOR\).* \(file im3\)"),
            ({"ModalityLUTSequence": [pydicom.Dataset()]}, r"numbers of a table .* \(file im3\)"),
        ],
        ids=["orientation", "spacing", "position", "colors", "palette", "table"],
    )
    def test_mixed_slices_are_refused(
        self, tags: dict[str, Any], message: str, write_dicom: Write, tmp_path: Path
    ) -> None:
        uids = dict.fromkeys(("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"), "1.2.3")
        write_dicom(tmp_path, stack(3), **uids)
        write_dicom(tmp_path, stack(5)[3:], start=3, **uids, **tags)
        with pytest.raises(ValueError, match=message):
            load(tmp_path)

    def test_a_reader_reads_one_series_at_a_time(self, tmp_path: Path) -> None:
        assert not DicomReader().verify_suffix(tmp_path / "b")
        with pytest.raises(ValueError, match="one series at a time, got 2"):
            DicomReader().read([tmp_path, tmp_path])


class TestNumbers:
    """Tags that say where slices lie, but hold no numbers, too few, or no directions."""

    @pytest.mark.parametrize("count", [1, 3])
    @pytest.mark.parametrize(
        ("keyword", "value", "message"),
        [
            ("PixelSpacing", 1.5, "'1.5', expected 2 numbers"),
            ("PixelSpacing", [1, 2, 3], "'1.*2.*3.*', expected 2 numbers"),
            ("PixelSpacing", ["nan", "1"], "'nan, 1.*', expected 2 numbers"),
            ("PixelSpacing", ["-1", "1"], r"\[-1, 1\], expected two positive"),
            ("ImagePositionPatient", [0, 5], "'0.*5.*', expected 3 numbers"),
            ("ImagePositionPatient", ["nan", "0", "0"], "'nan, 0.*', expected 3 numbers"),
            ("ImagePositionPatient", ["inf", "0", "0"], "'inf, 0.*', expected 3 numbers"),
            ("ImageOrientationPatient", [1, 0, 0, 0, 1], "'1.*', expected 6 numbers"),
            ("ImageOrientationPatient", ["nan", "0", "0", "0", "1", "0"], "'nan.*', expected 6 numbers"),
            ("ImageOrientationPatient", [0] * 6, r"of the lengths \[0, 0\], expected 1"),
            ("ImageOrientationPatient", [2, 0, 0, 0, 2, 0], r"of the lengths \[2, 2\], expected 1"),
            ("ImageOrientationPatient", [1, 0, 0, 0, 1.01, 0], r"of the lengths \[1, 1.01\], expected 1"),
            ("ImageOrientationPatient", [0.9, 0, 0, 0, 1, 0], r"of the lengths \[0.9, 1\], expected 1"),
            ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], "rows and columns are not at right angles"),
            ("ImageOrientationPatient", [1, 0, 0, 0.5, 0.8660254, 0], "are not at right angles"),
            ("ImageOrientationPatient", [1, 0, 0, 0.00872654, 0.99996192, 0], "are not at right angles"),
        ],
        ids=str,
    )
    def test_they_are_refused_with_the_file(
        self, keyword: str, value: Any, message: str, count: int, write_dicom: Write, tmp_path: Path
    ) -> None:
        paths = write_dicom(tmp_path, stack(count))
        image = pydicom.dcmread(paths[-1])
        setattr(image, keyword, value)
        image.save_as(paths[-1])
        with pytest.raises(ValueError, match=rf"its {keyword} is .*{message}.* \(file im{count - 1}\)"):
            load(tmp_path)
        assert len(find_images(tmp_path)) == 1, "a case that fails, and no end of the others"

    @pytest.mark.parametrize("keyword", ["SliceThickness", "SpacingBetweenSlices"])
    def test_a_thickness_that_is_no_number_is_refused(self, keyword: str, write_dicom: Write, tmp_path: Path) -> None:
        write_dicom(tmp_path, stack(1), **{keyword: "nan"})
        with pytest.raises(ValueError, match=rf"its {keyword} is 'nan', expected 1 number.* \(file im0\)"):
            load(tmp_path)

    @pytest.mark.parametrize("digits", [3, 4, 6, 15])
    @pytest.mark.parametrize("seed", range(5))
    def test_rounded_directions_are_read_at_their_places(
        self, seed: int, digits: int, write_dicom: Write, tmp_path: Path
    ) -> None:
        axes = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
        step = 2.5 * np.cross(axes[0], axes[1])
        positions = [list(np.round(n * step, 6)) for n in range(4)]
        paths = write_dicom(tmp_path, positions, ImageOrientationPatient=list(np.round(axes[:2].ravel(), digits)))
        affine = load(tmp_path).affine.numpy()
        series = sitk.ReadImage([str(path) for path in paths])
        for index in np.ndindex(6, 4, 4):
            point = np.array(series.TransformIndexToPhysicalPoint(index)) * [-1, -1, 1]
            np.testing.assert_allclose((affine @ [*index, 1])[:3], point, atol=20 * 10.0**-digits + 1e-5)
        np.testing.assert_allclose(np.linalg.norm(affine[:3, :2], axis=0), [3, 2], rtol=1e-12)
