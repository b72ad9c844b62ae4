# SPDX-License-Identifier: Apache-2.0
"""DICOM series: finding, reading and writing. A study's headers are read once, and travel with each series."""

from __future__ import annotations

from .geometry import DicomGeometry
from .reader import DicomReader
from .seg import require_highdicom, write_dicom_seg
from .series import DicomFolder, DicomSeries

__all__ = ["DicomFolder", "DicomGeometry", "DicomReader", "DicomSeries", "require_highdicom", "write_dicom_seg"]
