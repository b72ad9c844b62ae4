# SPDX-License-Identifier: Apache-2.0
"""Telling colors from gray that is stored as colors."""

from __future__ import annotations

import numpy as np

__all__ = ["has_colors"]

# JPEG's rounding makes the three channels of a gray picture differ by a few values
_TOLERANCE = 16


def has_colors(picture: np.ndarray) -> bool:
    """Whether the channels of a picture, ``(Y, X)`` or ``(Y, X, 3)``, differ by more than the rounding of JPEG."""
    return picture.ndim == 3 and int(np.ptp(picture, axis=-1).max()) > _TOLERANCE
