# SPDX-License-Identifier: Apache-2.0
"""Inferers: how a 2D network is run on a volume."""

from __future__ import annotations

from .volume_slice_inferer import VolumeSliceInferer

__all__ = ["VolumeSliceInferer"]
