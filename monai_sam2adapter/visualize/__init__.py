# SPDX-License-Identifier: Apache-2.0
"""Pictures: overlays and plots."""

from __future__ import annotations

from .bland_altman import draw_bland_altman
from .box_plot import draw_box_plot
from .overlay import PALETTE, OverlayPlanes, draw_overlay, output_planes

__all__ = ["PALETTE", "OverlayPlanes", "draw_bland_altman", "draw_box_plot", "draw_overlay", "output_planes"]
