# SPDX-License-Identifier: Apache-2.0
"""One rule for the size of images: training, validation and inference resize alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["resize_images"]


def resize_images(images: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """
    Resize images bilinearly, pixels as areas whose outer corners stay (``align_corners=False``), and with a filter as
    wide as a new pixel where they become smaller, as SAM 2's own transform and Pillow do. Without it fine texture turns
    into moiré, and a thin line comes and goes with its position.

    Args:
        images: ``(N, C, h, w)``, floating point.
        size: new height and width, in pixels.

    Returns:
        images of that size, of the same type; the same object where the size is already right.
    """
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    import torch  # the command line imports this room, and PyTorch takes seconds

    # there is no such filter for half precision on every device, and a filter's sums deserve more
    exact = images if images.dtype == torch.float64 else images.float()
    return torch.nn.functional.interpolate(exact, size=tuple(size), mode="bilinear", antialias=True).to(images.dtype)
