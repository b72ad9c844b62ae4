# SPDX-License-Identifier: Apache-2.0
"""Engines: MONAI's, made to fit what bundles here need."""

from __future__ import annotations

from .case_evaluator import CaseEvaluator
from .device_transforms import DeviceTransforms
from .pictures_in_parts import PicturesInParts
from .pipelined_evaluator import PipelinedEvaluator
from .processes import initialize_processes

__all__ = ["CaseEvaluator", "DeviceTransforms", "PicturesInParts", "PipelinedEvaluator", "initialize_processes"]
