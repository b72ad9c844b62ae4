# SPDX-License-Identifier: Apache-2.0
"""Inferers: how a 2D network is run on images and volumes of any size."""

from __future__ import annotations

from .bands import predict_in_bands
from .resize_inferer import ResizeInferer
from .volume_slice_inferer import VolumeSliceInferer

__all__ = ["ResizeInferer", "VolumeSliceInferer", "predict_in_bands"]
