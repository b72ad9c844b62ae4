# SPDX-License-Identifier: Apache-2.0
"""Handlers for MONAI's trainers and evaluators: scores, checkpoints, results, reports, pictures and progress."""

from __future__ import annotations

from .case_report import CaseReportSaver
from .case_scores import CaseScoresHandler
from .nonfinite_loss import NonFiniteLossHandler
from .overlay_images import OverlayImageHandler
from .progress_bar import EpochProgressBar
from .segmentation_saver import SegmentationSaver
from .synchronizers import BufferSynchronizer, LossSynchronizer
from .training_checkpoint import TrainingCheckpoint

__all__ = [
    "BufferSynchronizer",
    "CaseReportSaver",
    "CaseScoresHandler",
    "EpochProgressBar",
    "LossSynchronizer",
    "NonFiniteLossHandler",
    "OverlayImageHandler",
    "SegmentationSaver",
    "TrainingCheckpoint",
]
