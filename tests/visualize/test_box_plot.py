# SPDX-License-Identifier: Apache-2.0
"""Box plots show all points and names."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from monai_sam2adapter.visualize import draw_box_plot

NAMES = ["left <kidney>", "gall$bladder$", "_{x}^2 \\frac", "Ösophagus é"]


def ink(picture: bytes) -> np.ndarray:
    """Where a plot is not white."""
    return np.asarray(Image.open(io.BytesIO(picture)).convert("L")) < 250


@pytest.mark.parametrize("logarithmic", [False, True])
def test_box_plot_shows_all_names_and_empty_classes_without_a_warning(logarithmic) -> None:
    values = np.random.default_rng(0).uniform(0, 300 if logarithmic else 1, size=(9, len(NAMES)))
    values[:, 2] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = draw_box_plot(values, NAMES, "HD95 ($mm)", logarithmic)
        values[:, 2] = 0.5
        fuller = draw_box_plot(values, NAMES, "HD95 ($mm)", logarithmic)
    assert ink(picture).mean() > 0.01
    assert ink(fuller).sum() > ink(picture).sum()
    assert draw_box_plot(values, NAMES, "HD95 ($mm)", logarithmic) == fuller, "the same each time"


def test_values_beyond_0_to_1_are_shown() -> None:
    """Volumes in ml, and errors below 0."""
    for scale, shift in ((300, 0), (40, -20)):
        values = np.random.default_rng(0).uniform(size=(9, 2)) * scale + shift
        boxes = ink(draw_box_plot(values, NAMES[:2], "ml"))[20:-120, 60:]
        assert boxes.mean() > 1.5 * ink(draw_box_plot(np.full((9, 2), 0.5), NAMES[:2], "ml"))[20:-120, 60:].mean()
