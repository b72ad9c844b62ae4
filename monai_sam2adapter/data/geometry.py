# SPDX-License-Identifier: Apache-2.0
"""Where the voxels of an image lie, and whether those of its labels lie there too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nibabel as nib
import numpy as np
from monai.utils import MetaKeys, SpaceKeys

__all__ = ["LPS_TO_RAS", "image_meta", "place_problem", "shape_problem", "voxel_spacing"]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From the axes of DICOM and ITK to those of NIfTI and MONAI, ``(4, 4)``."""

# the corners of a mask may be this much off those of its image, in sides of the smallest voxel: more than the rounding
# of a header, less than what can be seen
_TOLERANCE = 0.01


def image_meta(shape: Sequence[int], affine: np.ndarray, channels_last: bool = False) -> dict[str, Any]:
    """
    Metadata of an image as MONAI wants it from a reader.

    Args:
        shape: the spatial axes.
        affine: voxel to world (RAS+, mm) matrix, (4, 4).
        channels_last: whether there is an axis of channels behind them. Defaults to False.
    """
    meta = {
        MetaKeys.ORIGINAL_AFFINE: affine,
        MetaKeys.AFFINE: affine.copy(),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.SPATIAL_SHAPE: np.asarray(shape),
        MetaKeys.ORIGINAL_CHANNEL_DIM: -1 if channels_last else float("nan"),
    }
    return {str(key): value for key, value in meta.items()}


def voxel_spacing(affine: np.ndarray) -> tuple[float, ...]:
    """Sides of a voxel, in mm, of an affine (4, 4)."""
    return tuple(float(side) for side in nib.affines.voxel_sizes(affine))


def shape_problem(image: Sequence[int], label: Sequence[int]) -> str:
    """
    Say how the shape of a label differs from that of its image, both without channels.

    Returns:
        both shapes, to be put behind the name of the label's file; empty when they are equal.
    """
    return "" if tuple(image) == tuple(label) else f"has the shape {tuple(label)}, its image {tuple(image)}"


def place_problem(shape: Sequence[int], image: np.ndarray, label: np.ndarray) -> str:
    """
    Say how far a label lies from its image.

    Args:
        shape: shape of both, of 2 or 3 axes.
        image: affine of the image, (4, 4).
        label: the same of its label.

    Returns:
        the largest distance of their corners, to be put behind the name of the label's file; empty when that is at most
        0.01 of the smallest side of a voxel.
    """
    sides = (*shape, 1)[:3]
    corners = np.stack(np.meshgrid(*[(0, side - 1) for side in sides]), axis=-1).reshape(-1, 3)
    difference = nib.affines.apply_affine(image, corners) - nib.affines.apply_affine(label, corners)
    distance = np.linalg.norm(difference, axis=-1).max()
    # written so that NaN is a problem too
    if distance <= _TOLERANCE * min(voxel_spacing(image)):
        return ""
    spacings = [", ".join(f"{side:.4g}" for side in voxel_spacing(affine)) for affine in (label, image)]
    return (
        f"lies elsewhere than its image: voxels are up to {distance:.3g} mm apart "
        f"(spacing {spacings[0]} mm, of the image {spacings[1]} mm)"
    )
