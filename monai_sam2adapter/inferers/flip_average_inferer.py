# SPDX-License-Identifier: Apache-2.0
"""Test-time augmentation by flips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.utils import convert_to_dst_type

__all__ = ["FlipAverageInferer"]

_LEAST = 1e-7  # probability, so that its logarithm is finite


class FlipAverageInferer(Inferer):
    """
    Run another inferer on an image and on its mirror images, and average the class probabilities.

    Put in are the axes that the anatomy allows to be mirrored, best those that training has mirrored: a heart in any
    orientation, but no abdomen, whose liver would be on the left.

    The result is logits again, of the averaged probabilities: their softmax (sigmoid for one channel) gives these. What
    comes after it need not know how many runs there were.

    Args:
        inferer: what runs the network on one image; its output is logits, ``(B, K, *spatial)``.
        flips: a list of spatial axes, 0 to 2, for each mirror image, such as ``[[0], [1], [0, 1]]``; the image as it is
            is always among the runs. Defaults to none: the other inferer's output as it is.

    Raises:
        ValueError: when ``flips`` is no list of lists of different axes of the other inferer's images, or has a mirror
            image twice.

    Example:
        >>> import torch
        >>> from monai.inferers import SimpleInferer
        >>> from monai_sam2adapter.inferers import FlipAverageInferer
        >>> inferer = FlipAverageInferer(SimpleInferer(), flips=[[0], [1]])
        >>> tuple(inferer(torch.rand(1, 1, 20, 24), torch.nn.Conv2d(1, 4, 1)).shape)
        (1, 4, 20, 24)
    """

    def __init__(self, inferer: Inferer, flips: Sequence[Sequence[int]] = ()) -> None:
        super().__init__()
        self.inferer = inferer
        if not isinstance(flips, (list, tuple)) or not all(_are_axes(flip) for flip in flips):
            raise ValueError(f"flips must be lists of spatial axes in a list, as [[0], [1], [0, 1]], got {flips!r}.")
        self.flips = [tuple(sorted(flip)) for flip in flips]
        if len(set(self.flips)) < len(self.flips):
            raise ValueError(f"flips has a mirror image twice: {flips}; name each once.")
        spatial_dims = getattr(inferer, "spatial_dims", 3)
        if any(axis >= spatial_dims for flip in self.flips for axis in flip):
            raise ValueError(
                f"flips has the axis 2, but {type(inferer).__name__} takes images with the spatial axes 0 and 1, got "
                f"{flips}; leave it out."
            )

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """
        Args:
            inputs: images, ``(B, C, *spatial)``.
            network: passed on.
            args: passed on.
            kwargs: passed on.

        Returns:
            logits, ``(B, K, *spatial)``.

        Raises:
            ValueError: when an axis is not there.
        """
        if not self.flips:
            return self.inferer(inputs, network, *args, **kwargs)
        last = max(flip[-1] for flip in self.flips)
        if last > inputs.ndim - 3:
            raise ValueError(f"there is no spatial axis {last} to flip in images of shape {tuple(inputs.shape)}.")
        output = self.inferer(inputs, network, *args, **kwargs)
        total = _probabilities(output)
        # in place and channel by channel, since the probabilities of a volume may take gigabytes
        for flip in self.flips:
            dims = [2 + axis for axis in flip]
            output = self.inferer(torch.flip(inputs, dims), network, *args, **kwargs)
            for part, mirrored in zip(total.unbind(1), _probabilities(output).unbind(1), strict=True):
                part += torch.flip(mirrored, [dim - 1 for dim in dims])
        total /= 1 + len(self.flips)
        logits = total.logit_(eps=_LEAST) if total.shape[1] == 1 else total.clamp_(min=_LEAST).log_()
        return convert_to_dst_type(logits, output, dtype=logits.dtype)[0]


def _are_axes(flip: Any) -> bool:
    if not isinstance(flip, (list, tuple)) or not flip:
        return False
    return len(set(flip)) == len(flip) and all(axis in (0, 1, 2) for axis in flip)


def _probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Softmax over the classes, or sigmoid of a single one, float32."""
    values = (logits.as_tensor() if isinstance(logits, MetaTensor) else logits).float()
    return values.sigmoid() if values.shape[1] == 1 else values.softmax(dim=1)
