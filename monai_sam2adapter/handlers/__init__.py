# SPDX-License-Identifier: Apache-2.0
"""Handlers for MONAI's trainers and evaluators: checkpoints, reports, pictures and progress."""

from __future__ import annotations

from .atomic_file import atomic_path
from .case_names import get_case_names
from .case_report import CaseReportSaver
from .nonfinite_loss import NonFiniteLossHandler
from .overlay import PALETTE, draw_case, draw_overlay
from .overlay_images import OverlayImageHandler
from .progress_bar import EpochProgressBar
from .training_checkpoint import TrainingCheckpoint

__all__ = [
    "PALETTE",
    "CaseReportSaver",
    "EpochProgressBar",
    "NonFiniteLossHandler",
    "OverlayImageHandler",
    "TrainingCheckpoint",
    "atomic_path",
    "draw_case",
    "draw_overlay",
    "get_case_names",
]
