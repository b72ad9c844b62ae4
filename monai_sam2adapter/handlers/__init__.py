# SPDX-License-Identifier: Apache-2.0
"""Handlers for MONAI's trainers and evaluators: checkpoints, reports, pictures and progress."""

from __future__ import annotations

from ..atomic_file import atomic_path
from .box_plot import draw_box_plot
from .buffer_synchronizer import BufferSynchronizer
from .case_names import get_case_names, get_case_sources
from .case_report import CaseReportSaver
from .evaluation_results import evaluation_results, example_cases
from .html_report import render_html_report
from .iteration_seed import IterationSeedHandler
from .nonfinite_loss import NonFiniteLossHandler
from .output_picture import draw_output
from .overlay import PALETTE, draw_case, draw_overlay
from .overlay_images import OverlayImageHandler
from .progress_bar import EpochProgressBar
from .training_checkpoint import TrainingCheckpoint

__all__ = [
    "PALETTE",
    "BufferSynchronizer",
    "CaseReportSaver",
    "EpochProgressBar",
    "IterationSeedHandler",
    "NonFiniteLossHandler",
    "OverlayImageHandler",
    "TrainingCheckpoint",
    "atomic_path",
    "draw_box_plot",
    "draw_case",
    "draw_output",
    "draw_overlay",
    "evaluation_results",
    "example_cases",
    "get_case_names",
    "get_case_sources",
    "render_html_report",
]
