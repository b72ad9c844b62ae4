# SPDX-License-Identifier: Apache-2.0
"""Readers of pictures and volumes."""

from __future__ import annotations

from .image_file_reader import ImageFileReader
from .sitk_reader import SimpleITKReader
from .transunet_reader import TransUNetArrayReader
from .volume_reader import VolumeReader

__all__ = ["ImageFileReader", "SimpleITKReader", "TransUNetArrayReader", "VolumeReader"]
