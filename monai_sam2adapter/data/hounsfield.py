# SPDX-License-Identifier: Apache-2.0
"""Whether a CT of the body is in Hounsfield units."""

from __future__ import annotations

__all__ = ["hounsfield_problem"]

# there is air around a body (-1000) and bone in it, whatever the scanner: a scan that was shifted so that air is 0, cut
# to a window or normalized lacks values below or above these
_AIR = -500
_BONE = 100


def hounsfield_problem(low: float, high: float) -> str:
    """
    Say why a scan of the trunk cannot be in Hounsfield units.

    Args:
        low: the smallest value of the scan.
        high: the largest one.

    Returns:
        what the range is and what is expected, to be put behind the file's name; empty when all is well.
    """
    if low < _AIR and high > _BONE:  # written so that NaN is a problem too
        return ""
    return (
        f"is not in Hounsfield units: values from {low:.4g} to {high:.4g}, expected air near -1000 and bone above "
        f"{_BONE}; take the original scan"
    )
