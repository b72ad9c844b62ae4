# SPDX-License-Identifier: Apache-2.0
"""DICOM series: finding, reading and writing."""

from __future__ import annotations

from .geometry import DicomGeometry
from .reader import DicomReader
from .seg import require_highdicom, write_dicom_seg
from .series import DicomSeries

__all__ = ["DicomGeometry", "DicomReader", "DicomSeries", "require_highdicom", "write_dicom_seg"]
