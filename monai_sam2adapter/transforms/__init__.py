# SPDX-License-Identifier: Apache-2.0
"""Transforms that MONAI lacks."""

from __future__ import annotations

from .gray_mask_to_labeld import GrayMaskToLabeld
from .labels_to_masksd import LabelsToMasksd
from .normalize_channelsd import NormalizeChannelsd
from .one_hot_labelsd import OneHotLabelsd
from .orient_slicesd import OrientSlicesd
from .rand_tiled import RandTiled, resize_or_draw_tile
from .require import (
    RequireDimensionsd,
    RequireFinited,
    RequireHounsfieldd,
    RequireLabelsd,
    RequireSameGeometryd,
)
from .resize_with_labelsd import ResizeWithLabelsd
from .save_segmentationd import SaveSegmentationd
from .segment_logitsd import SegmentLogitsd

__all__ = [
    "GrayMaskToLabeld",
    "LabelsToMasksd",
    "NormalizeChannelsd",
    "OneHotLabelsd",
    "OrientSlicesd",
    "RandTiled",
    "RequireDimensionsd",
    "RequireFinited",
    "RequireHounsfieldd",
    "RequireLabelsd",
    "RequireSameGeometryd",
    "ResizeWithLabelsd",
    "SaveSegmentationd",
    "SegmentLogitsd",
    "resize_or_draw_tile",
]
