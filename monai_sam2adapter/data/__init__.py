# SPDX-License-Identifier: Apache-2.0
"""Data sets: their lists and splits, their checks, slices for training, volumes for inference, and phantoms."""

from __future__ import annotations

from .acdc import ACDC_CLASS_NAMES, acdc_datalist, acdc_layout_problems, find_acdc_patients
from .cardiac_phantom import CardiacPhantom
from .check import DatasetReport, check_image_and_label, format_report
from .check_acdc import check_acdc
from .phantoms import write_acdc_phantom
from .sitk_reader import SimpleITKReader
from .slice_dataset import VolumeSliceDataset
from .split import SPLIT_PARTS, packaged_split_file, read_split
from .volumes import VOLUME_EXTENSIONS, find_volumes

__all__ = [
    "ACDC_CLASS_NAMES",
    "SPLIT_PARTS",
    "VOLUME_EXTENSIONS",
    "CardiacPhantom",
    "DatasetReport",
    "SimpleITKReader",
    "VolumeSliceDataset",
    "acdc_datalist",
    "acdc_layout_problems",
    "check_acdc",
    "check_image_and_label",
    "find_acdc_patients",
    "find_volumes",
    "format_report",
    "packaged_split_file",
    "read_split",
    "write_acdc_phantom",
]
