# SPDX-License-Identifier: Apache-2.0
"""Run a 2D network on a volume, slice by slice, at the network's own in-plane size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tqdm.auto import tqdm

from ..data.slices import slices_with_neighbors
from .resize_inferer import ResizeInferer, _plain_float, _with_meta_of

__all__ = ["VolumeSliceInferer"]


class VolumeSliceInferer(ResizeInferer):
    """
    Run a 2D network on the slices of a volume and stack the logits in the volume's own size.

    Unlike ``monai.inferers.SliceInferer``, which cuts windows out of the slices, every slice is resized to
    ``spatial_size`` as a whole and its logits are resized back. Only ``batch_size`` slices exist at network size at any
    time: a whole volume at 1024 x 1024 with a channel for each class would take gigabytes.

    Slices are resized by the rule of ``ResizeInferer``, which does the same for images.

    Args:
        spatial_size: in-plane size that the network runs at, in pixels: one number for both sides, or one for each of
            the two axes that remain without ``slice_axis``. Defaults to None: slices are not resized.
        batch_size: slices per forward pass, at least 1. Defaults to 8.
        slice_axis: spatial axis that is cut into slices, -3 to 2. Defaults to -1, the last one.
        output_device: device on which the logits of the volume are collected; ``"cpu"`` keeps them off the GPU.
            Defaults to None: the device of the input.
        progress: whether to show a progress bar over the slices. Defaults to False.
        num_neighbors: slices on each side that become channels, as in ``VolumeSliceDataset``. Defaults to 0.

    Raises:
        ValueError: when ``spatial_size`` or ``batch_size`` is not positive, ``slice_axis`` is not a spatial axis, or
            ``num_neighbors`` is negative.

    Example:
        >>> import torch
        >>> from monai_sam2adapter.inferers import VolumeSliceInferer
        >>> network = torch.nn.Conv2d(1, 4, kernel_size=3, padding=1)
        >>> inferer = VolumeSliceInferer(spatial_size=32)
        >>> with torch.no_grad():
        ...     logits = inferer(torch.rand(1, 1, 20, 24, 5), network)
        >>> tuple(logits.shape)
        (1, 4, 20, 24, 5)
    """

    spatial_dims = 3

    def __init__(
        self,
        spatial_size: int | Sequence[int] | None = None,
        batch_size: int = 8,
        slice_axis: int = -1,
        output_device: str | torch.device | None = None,
        progress: bool = False,
        num_neighbors: int = 0,
    ) -> None:
        super().__init__(spatial_size, output_device)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1 slice, got {batch_size}.")
        if not -3 <= slice_axis <= 2:
            raise ValueError(f"slice_axis must be one of the three spatial axes, -3 to 2, got {slice_axis}.")
        if num_neighbors < 0:
            raise ValueError(f"num_neighbors must be 0 or more slices on each side, got {num_neighbors}.")
        self.batch_size = batch_size
        self.slice_axis = slice_axis
        self.progress = progress
        self.num_neighbors = num_neighbors

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """
        Args:
            inputs: volumes, ``(B, C, H, W, D)``, any ``H, W, D >= 1``; integers are converted to float32.
            network: 2D network, ``(N, (2 * num_neighbors + 1) * C, h, w)`` to logits ``(N, K, h', w')``.
            args: passed on to ``network``.
            kwargs: passed on to ``network``.

        Returns:
            logits, ``(B, K, H, W, D)``, float32 on ``output_device``; a ``MetaTensor`` with the metadata of ``inputs``
            when that is one.

        Raises:
            ValueError: when ``inputs`` is not five-dimensional or has no voxels, or the network's output is not
                four-dimensional with one item per slice.
            TypeError: when the network returns anything but one tensor.
        """
        if inputs.ndim != 5 or inputs.numel() == 0:
            raise ValueError(
                "VolumeSliceInferer expects volumes of shape (B, C, H, W, D) with at least one voxel, got "
                f"{tuple(inputs.shape)}; take ResizeInferer for images (B, C, H, W)."
            )
        volumes = _plain_float(inputs)
        axis = 2 + self.slice_axis % 3
        slices = volumes.movedim(axis, 1)  # (B, C, H, W, D) -> (B, S, C, h, w), S slices
        n_slices = slices.shape[1]

        output: torch.Tensor | None = None
        with tqdm(total=len(slices) * n_slices, desc="Slices", unit="slice", disable=not self.progress) as bar:
            for case in range(len(slices)):
                for start in range(0, n_slices, self.batch_size):
                    stop = min(start + self.batch_size, n_slices)
                    chunk = slices_with_neighbors(slices[case], start, stop, self.num_neighbors)
                    logits = self._predict(chunk, network, *args, **kwargs)
                    if output is None:  # the number of classes is known only now
                        shape = (len(volumes), logits.shape[1], *volumes.shape[2:])
                        output = torch.empty(shape, device=self.output_device or volumes.device)
                    output.movedim(axis, 1)[case, start:stop] = logits.to(output.device)
                    bar.update(len(chunk))
        return _with_meta_of(inputs, output)  # type: ignore[arg-type]
