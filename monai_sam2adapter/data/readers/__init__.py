# SPDX-License-Identifier: Apache-2.0
"""Readers of pictures and volumes."""

from __future__ import annotations

from .nifti import NiftiReader
from .picture_rows import PictureRows, open_rows, picture_size
from .pictures import MAX_PIXELS, ImageFileReader, label_colors, open_picture
from .transunet import TransUNetArrayReader
from .volumes import SimpleITKReader, VolumeReader

__all__ = [
    "MAX_PIXELS",
    "ImageFileReader",
    "NiftiReader",
    "PictureRows",
    "SimpleITKReader",
    "TransUNetArrayReader",
    "VolumeReader",
    "label_colors",
    "open_picture",
    "open_rows",
    "picture_size",
]
