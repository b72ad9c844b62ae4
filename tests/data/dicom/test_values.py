# SPDX-License-Identifier: Apache-2.0
"""What the values of DICOM slices mean: said in full, the same for all slices, or refused by file, tag and values."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import EnhancedCTImageStorage

from monai_sam2adapter.data import VolumeReader

Write = Callable[..., list[Path]]
STACK = [[10, 20, 2.5 * n] for n in range(4)]
MISSING = "<missing>"


def load(address: Path | str) -> np.ndarray:
    return VolumeReader().get_data((address,))[0]


def change(path: Path, **tags: Any) -> None:
    """Set tags of a file; MISSING deletes one, bytes are written as they are."""
    image = pydicom.dcmread(path)
    raw = {keyword: value for keyword, value in tags.items() if isinstance(value, bytes) and keyword != "PixelData"}
    for keyword, value in {**tags, **dict.fromkeys(raw, "9.87654321")}.items():
        if value == MISSING:
            if keyword in image:
                delattr(image, keyword)
        else:
            setattr(image, keyword, value)
    image.save_as(path)
    for value in raw.values():
        content = path.read_bytes()
        assert content.count(b"9.87654321") == 1
        path.write_bytes(content.replace(b"9.87654321", value.ljust(10)))


def stored(paths: Sequence[Path]) -> np.ndarray:
    """As pydicom reads them, rescaled file by file, (columns, rows, slices)."""
    images = [pydicom.dcmread(path) for path in paths]
    planes = [
        pydicom.pixels.apply_rescale(image.pixel_array, image) if "RescaleSlope" in image else image.pixel_array
        for image in images
    ]
    return np.stack(planes).transpose(2, 1, 0)


class TestOneMeaning:
    @pytest.mark.parametrize("index", [0, 2, 3], ids=["first", "middle", "last"])
    @pytest.mark.parametrize(
        ("common", "other", "modality"),
        [
            ({"RescaleSlope": 1, "RescaleIntercept": -1024}, {"RescaleIntercept": MISSING}, "CT"),
            ({"RescaleSlope": 1, "RescaleIntercept": -1024}, {"RescaleSlope": MISSING}, "CT"),
            ({"RescaleSlope": 3, "RescaleIntercept": 0}, {"RescaleSlope": None}, "MR"),
            ({"RescaleSlope": MISSING, "RescaleIntercept": MISSING}, {"RescaleSlope": 3}, "MR"),
            ({"RescaleType": "HU"}, {"RescaleType": "US"}, "CT"),
            ({"RescaleType": "HU"}, {"RescaleType": MISSING}, "CT"),
            ({"Units": "BQML"}, {"Units": "CNTS"}, "PT"),
            ({"Units": "GML", "SUVType": "BW"}, {"SUVType": "LBM"}, "PT"),
            ({"DecayCorrection": "START"}, {"DecayCorrection": "NONE"}, "PT"),
            ({"PhotometricInterpretation": "MONOCHROME2"}, {"PhotometricInterpretation": "MONOCHROME1"}, "MR"),
            ({"PhotometricInterpretation": "MONOCHROME1"}, {"PhotometricInterpretation": "MONOCHROME2"}, "DX"),
            ({"PresentationLUTShape": "IDENTITY"}, {"PresentationLUTShape": "INVERSE"}, "MR"),
            ({"BitsStored": 12, "HighBit": 11}, {"BitsStored": 16, "HighBit": 15}, "CT"),
            ({"PixelRepresentation": 0}, {"PixelRepresentation": 1}, "CT"),
            ({"FrameOfReferenceUID": "1.2.3"}, {"FrameOfReferenceUID": "1.2.4"}, "CT"),
            ({"FrameOfReferenceUID": "1.2.3"}, {"FrameOfReferenceUID": MISSING}, "CT"),
            ({"StudyInstanceUID": "1.2.3"}, {"StudyInstanceUID": "1.2.4"}, "CT"),
            ({"PatientID": "A"}, {"PatientID": "B"}, "CT"),
            ({"PatientID": "A"}, {"PatientID": ""}, "CT"),
            ({"PatientName": "A^B"}, {"PatientName": "A^C"}, "CT"),
            ({"PatientBirthDate": "20000101"}, {"PatientBirthDate": "20010101"}, "CT"),
            ({"Modality": "CT"}, {"Modality": "PT"}, "CT"),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else str(value),
    )
    def test_a_slice_that_differs_is_refused(
        self,
        common: dict[str, Any],
        other: dict[str, Any],
        modality: str,
        index: int,
        write_dicom: Write,
        tmp_path: Path,
    ) -> None:
        paths = write_dicom(tmp_path, STACK, Modality=modality)
        for path in paths:
            change(path, **common)
        assert load(tmp_path).shape == (6, 4, 4)
        change(paths[index], **other)
        keyword = next(iter(other))
        most, one = (
            "none" if tags[keyword] in (MISSING, None, "") else re.escape(str(tags[keyword]))
            for tags in (common, other)
        )
        values = rf"mostly {most}(\.0)?, but {one}(\.0)? in" if not keyword.startswith("Patient") else "another one in"
        message = rf"differ in {keyword}: {values} im{index} \(1 of 4 files\)"
        with pytest.raises(ValueError, match=message):
            load(tmp_path)

    def test_half_of_another_patient_is_refused(self, write_dicom: Write, tmp_path: Path) -> None:
        paths = write_dicom(tmp_path, STACK)
        for path, patient in zip(paths, "ABAB", strict=True):
            change(path, PatientID=patient)
        with pytest.raises(ValueError, match=r"differ in PatientID: another one in im1 \(2 of 4 files\)"):
            load(tmp_path)

    @pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
    def test_scales_that_all_slices_have_may_differ(self, modality: str, write_dicom: Write, tmp_path: Path) -> None:
        paths = write_dicom(tmp_path, STACK, Modality=modality, Units="BQML", PatientID="")
        for number, path in enumerate(paths):
            change(path, RescaleSlope=0.5 + number, RescaleIntercept=-10 * number)
        np.testing.assert_allclose(load(tmp_path), stored(paths))


class TestOneFile:
    @pytest.mark.parametrize("value", [0, "0.0", b"abc", b"12,5", b"nan", b"inf", ["1", "2"]], ids=str)
    @pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
    @pytest.mark.parametrize("count", [1, 3])
    def test_a_scale_that_is_no_number_is_refused(
        self, count: int, keyword: str, value: Any, write_dicom: Write, tmp_path: Path
    ) -> None:
        paths = write_dicom(tmp_path, STACK[:count])
        change(paths[-1], **{keyword: value})
        if keyword == "RescaleIntercept" and value in (0, "0.0"):
            np.testing.assert_array_equal(load(tmp_path), stored(paths))
            return
        with pytest.raises(ValueError, match=rf"its {keyword} is .* \(file im{count - 1}\)"):
            load(tmp_path)

    @pytest.mark.parametrize(
        ("tags", "message"),
        [
            ({"BitsStored": 12, "HighBit": 15}, r"its HighBit is 15, expected 11 \(BitsStored 12\)"),
            ({"BitsStored": 12, "HighBit": 12}, "its HighBit is 12, expected 11"),
            ({"BitsStored": 16, "HighBit": 11}, "its HighBit is 11, expected 15"),
            ({"BitsStored": 17, "HighBit": 16}, r"cannot be stored as it says \(BitsAllocated 16, BitsStored 17"),
            ({"BitsStored": 0}, "cannot be stored as it says"),
            ({"PixelRepresentation": 2}, "cannot be stored as it says .*PixelRepresentation 2"),
            ({"BitsAllocated": 12, "BitsStored": 12, "HighBit": 11}, r"as it says \(BitsAllocated 12"),
            ({"BitsAllocated": 32, "BitsStored": 20, "HighBit": 19}, "uses 20 of 32 bits"),
            ({"BitsAllocated": 8, "BitsStored": 7, "HighBit": 6}, "uses 7 of 8 bits"),
            ({"BitsStored": MISSING}, r"does not say how its values are stored \(BitsStored\)"),
            ({"PixelRepresentation": MISSING}, r"does not say how its values are stored \(PixelRepresentation\)"),
        ],
        ids=str,
    )
    def test_bits_that_cannot_be_are_refused(
        self, tags: dict[str, Any], message: str, write_dicom: Write, tmp_path: Path
    ) -> None:
        for path in write_dicom(tmp_path, STACK):
            change(path, **tags)
        with pytest.raises(ValueError, match=rf"{message}.* \(file im0\)"):
            load(tmp_path)

    @pytest.mark.parametrize("signed", [0, 1])
    @pytest.mark.parametrize(("allocated", "bits"), [(8, 8), (16, 1), (16, 8), (16, 12), (16, 16), (32, 32)])
    def test_bits_are_read_as_pydicom_does(
        self, allocated: int, bits: int, signed: int, write_dicom: Write, tmp_path: Path
    ) -> None:
        kind = np.dtype(f"<{'i' if signed else 'u'}{allocated // 8}")
        values = np.random.default_rng(bits).integers(-(1 << bits - 1) if signed else 0, 1 << bits - signed, (4, 4, 6))
        paths = write_dicom(tmp_path, STACK)
        for path, plane in zip(paths, values, strict=True):
            tags = {"BitsAllocated": allocated, "BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": signed}
            change(path, **tags, RescaleSlope=1, RescaleIntercept=0, PixelData=plane.astype(kind).tobytes())
            change(path, HighBit=bits - 1 if bits < 16 else MISSING)
        np.testing.assert_allclose(load(tmp_path), values.transpose(2, 1, 0), rtol=1e-7)
        np.testing.assert_allclose(stored(paths), values.transpose(2, 1, 0))


class TestUnits:
    @pytest.mark.parametrize(
        ("tags", "message"),
        [
            ({"RescaleType": "HU"}, ""),
            ({"RescaleType": MISSING}, ""),
            ({"RescaleType": "US"}, "is CT in US (RescaleType), not in Hounsfield units"),
            ({"RescaleType": "MGML", "Modality": "PT"}, ""),
            ({"RescaleSlope": MISSING}, "has RescaleIntercept and no RescaleSlope; taken: 1"),
            ({"RescaleIntercept": MISSING}, "has RescaleSlope and no RescaleIntercept; taken: 0"),
            ({"RescaleIntercept": None, "Modality": "MR"}, "has RescaleSlope and no RescaleIntercept; taken: 0"),
        ],
        ids=str,
    )
    def test_what_is_not_said_or_unusual_is_told(
        self, tags: dict[str, Any], message: str, write_dicom: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        for path in write_dicom(tmp_path, STACK):
            change(path, **tags)
        slope = 1 if tags.get("RescaleSlope") == MISSING else 2
        intercept = 0 if "RescaleIntercept" in tags else -1000
        assert load(tmp_path)[1, 0, 0] == slope * 1 + intercept
        warnings = [record.getMessage() for record in caplog.records if record.name.startswith("monai_sam2adapter")]
        assert message in " ".join(warnings)
        assert bool(warnings) == bool(message)


Scale = tuple[float, float, str] | None


class TestFrames:
    """The scales that a file of several frames may say: of each frame, of all, and of the file."""

    @pytest.mark.parametrize("of_frames", [False, True], ids=["shared", "of each frame"])
    @pytest.mark.parametrize("unit", ["HU", "US"])
    def test_one_scale_is_taken_for_all(
        self, unit: str, of_frames: bool, write_dicom: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        scale = (2, -7, unit)
        path = write_frames(write_dicom, tmp_path, *(([scale] * 3, None) if of_frames else ([None] * 3, scale)))
        np.testing.assert_array_equal(load(path)[0, 0], [13, 33, 53])
        assert ("is CT in US (RescaleType)" in caplog.text) == (unit == "US")

    @pytest.mark.parametrize(
        ("frames", "shared", "message"),
        [
            ([(2, -7, "HU"), None, (2, -7, "HU")], None, "have a rescale slope, but not frame 2"),
            ([None, (2, -7, "HU"), (2, -7, "HU")], None, "have a rescale slope, but not frame 1"),
            (
                [(2, -7, "HU"), (2, -7, "HU"), (3, -7, "HU")],
                None,
                r"2 \* x \+ -7 HU of frame 1 and 3 .* of frame 3",
            ),
            ([(2, -7, "HU"), (2, -8, "HU"), (2, -7, "HU")], None, "different rescale slopes or intercepts"),
            ([(2, -7, "HU"), (2, -7, "US"), (2, -7, "HU")], None, "-7 HU of frame 1 and .* -7 US of frame 2"),
            ([(2, -7, "HU")] * 3, (5, 0, "HU"), "5 .* of all frames and 2 .* of frame 1"),
            ([(0, -7, "HU")] * 3, None, "its RescaleSlope is 0"),
        ],
        ids=["one without", "first without", "slope", "intercept", "unit", "two levels", "zero"],
    )
    def test_different_ones_are_refused(
        self, frames: list[Scale], shared: Scale, message: str, write_dicom: Write, tmp_path: Path
    ) -> None:
        with pytest.raises(ValueError, match=rf"{message}.* \(file im0\)"):
            load(write_frames(write_dicom, tmp_path, frames, shared))


def write_frames(write_dicom: Write, folder: Path, frames: list[Scale], shared: Scale) -> Path:
    """An enhanced CT file whose frame n holds 10 * n."""
    (path,) = write_dicom(folder, [[0, 0, 0]])
    image = pydicom.dcmread(path)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
        delattr(image, keyword)
    del image.RescaleIntercept
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    image.NumberOfFrames = len(frames)
    measures = {"PixelSpacing": [2, 3], "SliceThickness": 1}
    plane = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    image.SharedFunctionalGroupsSequence = [
        group(shared, PixelMeasuresSequence=measures, PlaneOrientationSequence=plane)
    ]
    image.PerFrameFunctionalGroupsSequence = [
        group(scale, PlanePositionSequence={"ImagePositionPatient": [10, 20, number]})
        for number, scale in enumerate(frames)
    ]
    image.PixelData = np.repeat(10 * np.arange(1, len(frames) + 1), 24).astype(np.uint16).tobytes()
    image.save_as(path)
    return path


def group(scale: Scale, **sequences: dict[str, Any]) -> pydicom.Dataset:
    if scale is not None:
        names = ("RescaleSlope", "RescaleIntercept", "RescaleType")
        sequences["PixelValueTransformationSequence"] = dict(zip(names, scale, strict=True))
    found = pydicom.Dataset()
    for name, values in sequences.items():
        item = pydicom.Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        setattr(found, name, [item])
    return found
