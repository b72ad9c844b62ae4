# SPDX-License-Identifier: Apache-2.0
"""Segmentations as DICOM objects, which a viewer places on the series they were made from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pydicom
from monai.utils import optional_import
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from ..._version import __version__
from ..label_scheme import LabelScheme
from .series import DicomSeries

__all__ = ["require_highdicom", "write_dicom_seg"]

_NAME = "monai_sam2adapter"
_FAMILY = Code("123110", "DCM", "Artificial Intelligence")
# what is said of a class without codes: the most general pair that viewers know
_GENERIC = {"category": ("85756007", "SCT", "Tissue"), "type": ("85756007", "SCT", "Tissue")}
# what a segmentation takes over from its series, and cannot do without
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID")
# may be empty, but highdicom wants the elements to be there
_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
)


def require_highdicom() -> Any:
    """
    Returns:
        the package highdicom.

    Raises:
        ImportError: when it is not installed; the message says how.
    """
    highdicom, found = optional_import("highdicom")
    if not found:
        raise ImportError("DICOM segmentations need the package highdicom: pip install 'monai-sam2adapter[dicom]'")
    return highdicom


def write_dicom_seg(
    path: str | os.PathLike[str], labels: np.ndarray, source: str | os.PathLike[str], scheme: LabelScheme
) -> None:
    """
    Write the segmentation of a DICOM series as a DICOM Segmentation object with one binary segment a class.

    It belongs to the study and the frame of reference of the series, and each of its frames refers to the image that it
    was made from. Slices without any structure are left out, as is usual. All classes are described, also those that
    were not found.

    Args:
        path: the file to write.
        labels: class of each voxel, ``(columns, rows, slices)``, as
            :py:class:`monai_sam2adapter.data.DicomReader` gives the image; of classes that overlap a mask of each,
            ``(columns, rows, slices, K)``.
        source: the series, or its address.
        scheme: names, colors and codes of the classes.

    Raises:
        ImportError: when highdicom is not installed.
        ValueError: when the labels do not fit the series, or the series lacks what a segmentation must refer to.
    """
    highdicom = require_highdicom()
    series = DicomSeries.open(source)
    order = series.geometry().order
    images = [pydicom.dcmread(file, force=True, stop_before_pixels=True) for file in series.files]
    planes = labels.swapaxes(0, 2).astype(np.uint8 if len(scheme.names) < 256 else np.uint16)
    # (X, Y, Z) -> (Z, Y, X), classes behind where they overlap
    expected = (len(order), int(images[0].Rows), int(images[0].Columns))
    if planes.shape[:3] != expected:
        raise ValueError(f"the labels are {planes.shape} (slices, rows, columns), but {series} is {expected}")
    if len(images) > 1:
        images = [images[index] for index in order]
    else:
        planes = planes[np.argsort(order)]  # the frames of one file stay in its order
    for image in images:
        _require_references(image, series)
        for keyword in _EMPTY:
            if keyword not in image:
                setattr(image, keyword, "")
    segmentation = highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=planes,
        segmentation_type="BINARY",
        segment_descriptions=_describe(highdicom, scheme),
        series_instance_uid=generate_uid(),
        series_number=int(images[0].get("SeriesNumber") or 0) + 1000,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=_NAME,
        manufacturer_model_name=scheme.model[:64],
        software_versions=__version__,
        device_serial_number="0",
        content_label="SEGMENTATION",
        content_description=scheme.model[:64],
        series_description=f"Segmentation: {scheme.model}"[:64],
        omit_empty_frames=bool(planes.any()),
    )
    segmentation.save_as(path)


def require_references(series: DicomSeries) -> None:
    """
    Check by the first file of a series that a segmentation can refer to it, before the work is done. Whether it is
    damaged is left for reading it.

    Raises:
        ValueError: when it lacks what a segmentation must refer to.
    """
    header = next(iter(series.headers.values()))
    if header is not None and "Rows" in header:
        _require_references(header, series)


def _require_references(image: pydicom.Dataset, series: DicomSeries) -> None:
    missing = [keyword for keyword in _NEEDED if not image.get(keyword)]
    if missing:
        raise ValueError(
            f"{series} has no {', '.join(missing)}, which a DICOM segmentation must refer to; write nii.gz instead"
        )


def _describe(highdicom: Any, scheme: LabelScheme) -> Sequence[Any]:
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=scheme.model[:64], version=scheme.version, family=_FAMILY, source=_NAME
    )
    segments = []
    for number, name in enumerate(scheme.names, start=1):
        codes = {**_GENERIC, **scheme.codes[number - 1]}
        segments.append(
            highdicom.seg.SegmentDescription(
                segment_number=number,
                segment_label=name[:64],
                segmented_property_category=Code(*codes["category"]),
                segmented_property_type=Code(*codes["type"]),
                algorithm_type="AUTOMATIC",
                algorithm_identification=algorithm,
                display_color=highdicom.color.CIELabColor.from_rgb(*scheme.colors[number - 1]),
            )
        )
    return segments
