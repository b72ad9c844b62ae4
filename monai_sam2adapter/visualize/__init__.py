# SPDX-License-Identifier: Apache-2.0
"""Pictures: overlays and plots."""

from __future__ import annotations

from .box_plot import draw_box_plot
from .output_picture import draw_output
from .overlay import PALETTE, draw_case, draw_overlay

__all__ = ["PALETTE", "draw_box_plot", "draw_case", "draw_output", "draw_overlay"]
