# SPDX-License-Identifier: Apache-2.0
"""DICOM segmentations lie on their series: read back by pydicom, place by place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pydicom
import pytest
from monai.transforms import LoadImage

from monai_sam2adapter.data import LabelScheme, VolumeReader, require_highdicom, write_dicom_seg

Write = Callable[..., list[Path]]
SCHEME = LabelScheme(
    ("ventricle", "wall", "not there"),
    ((230, 159, 0), (255, 255, 255), (0, 0, 0)),
    ({"category": ("91723000", "SCT", "Anatomical Structure"), "type": ("87878005", "SCT", "Left ventricle")}, {}, {}),
    "Hearts",
    "1.2",
)
TILTED = [0.8, 0.6, 0.0, 0.0, 0.0, -1.0]


def test_says_how_to_get_what_it_needs() -> None:
    with (
        mock.patch.dict("sys.modules", {"highdicom": None}),
        pytest.raises(ImportError, match=r"pip install 'monai-sam2adapter\[dicom\]'"),
    ):
        require_highdicom()


class TestWritten:
    @pytest.fixture(autouse=True)
    def _highdicom(self) -> None:
        pytest.importorskip("highdicom")

    @pytest.mark.parametrize("orientation", [[1, 0, 0, 0, 1, 0], TILTED], ids=["axial", "oblique"])
    def test_lies_on_the_series(self, orientation: list[float], write_dicom: Write, tmp_path: Path) -> None:
        normal = np.cross(orientation[:3], orientation[3:])
        positions = [list([1.0, 2.0, 3.0] + 2.5 * n * normal) for n in (3, 1, 0, 2)]
        files = write_dicom(tmp_path / "ct", positions, ImageOrientationPatient=orientation, StudyID="7")
        volume = LoadImage(reader=VolumeReader())(tmp_path / "ct")
        labels = np.zeros(volume.shape, np.uint8)  # (columns, rows, slices)
        labels[1, 2, 0], labels[4:, 1, 2], labels[0, 0, 2] = 1, 2, 1
        write_dicom_seg(tmp_path / "seg.dcm", labels, tmp_path / "ct", SCHEME)

        sources = {image.SOPInstanceUID: image for image in map(pydicom.dcmread, files)}
        first = next(iter(sources.values()))
        seg = pydicom.dcmread(tmp_path / "seg.dcm")
        assert seg.Modality == "SEG"
        assert seg.StudyInstanceUID == first.StudyInstanceUID
        assert seg.FrameOfReferenceUID == first.FrameOfReferenceUID
        assert seg.SeriesInstanceUID != first.SeriesInstanceUID
        (shared,) = seg.SharedFunctionalGroupsSequence
        np.testing.assert_allclose(shared.PlaneOrientationSequence[0].ImageOrientationPatient, orientation, atol=1e-6)
        np.testing.assert_allclose(shared.PixelMeasuresSequence[0].PixelSpacing, [2, 3])

        # each frame, put where it says, has the labels of the volume there
        found = np.zeros_like(labels)
        inverse = np.linalg.inv(volume.affine.numpy())
        for frame, group in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
            place = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float) * [-1, -1, 1]
            column, row, level = np.rint((inverse @ [*place, 1])[:3]).astype(int)
            assert (column, row) == (0, 0)
            found[:, :, level][frame.T > 0] = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            (source,) = group.DerivationImageSequence[0].SourceImageSequence
            np.testing.assert_allclose(
                [float(value) for value in sources[source.ReferencedSOPInstanceUID].ImagePositionPatient],
                place * [-1, -1, 1],
                atol=1e-6,
            )
        np.testing.assert_array_equal(found, labels)

    def test_describes_all_classes(self, write_dicom: Write, tmp_path: Path) -> None:
        write_dicom(tmp_path / "ct", [[0, 0, 0], [0, 0, 1]])
        write_dicom_seg(tmp_path / "seg.dcm", np.zeros((6, 4, 2), np.uint8), tmp_path / "ct", SCHEME)
        seg = pydicom.dcmread(tmp_path / "seg.dcm")
        segments = seg.SegmentSequence
        assert [segment.SegmentLabel for segment in segments] == ["ventricle", "wall", "not there"]
        codes = [segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for segment in segments]
        assert codes == ["Left ventricle", "Tissue", "Tissue"]
        algorithm = segments[0].SegmentationAlgorithmIdentificationSequence[0]
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("Hearts", "1.2")
        # PCS values of CIELab: white is L = 100 of 100, a = b = 0 in the middle of their range; black is L = 0
        white, black = (segments[index].RecommendedDisplayCIELabValue for index in (1, 2))
        np.testing.assert_allclose(white, [65535, 0x8080, 0x8080], atol=150)
        np.testing.assert_allclose(black, [0, 0x8080, 0x8080], atol=150)
        assert not seg.pixel_array.any()

    def test_what_does_not_fit_is_refused(self, write_dicom: Write, tmp_path: Path) -> None:
        write_dicom(tmp_path / "ct", [[0, 0, 0], [0, 0, 1]], StudyInstanceUID="")
        with pytest.raises(ValueError, match=r"labels are \(1, 4, 6\) .*is \(2, 4, 6\)"):
            write_dicom_seg(tmp_path / "seg.dcm", np.zeros((6, 4, 1), np.uint8), tmp_path / "ct", SCHEME)
        with pytest.raises(ValueError, match=r"has no StudyInstanceUID, which a DICOM segmentation must refer to"):
            write_dicom_seg(tmp_path / "seg.dcm", np.zeros((6, 4, 2), np.uint8), tmp_path / "ct", SCHEME)
        assert not (tmp_path / "seg.dcm").exists()
