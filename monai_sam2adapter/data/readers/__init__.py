# SPDX-License-Identifier: Apache-2.0
"""Readers of pictures and volumes."""

from __future__ import annotations

from .nifti import NiftiReader
from .pictures import ImageFileReader
from .transunet import TransUNetArrayReader
from .volumes import SimpleITKReader, VolumeReader

__all__ = ["ImageFileReader", "NiftiReader", "SimpleITKReader", "TransUNetArrayReader", "VolumeReader"]
