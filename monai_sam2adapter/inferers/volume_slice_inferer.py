# SPDX-License-Identifier: Apache-2.0
"""Run a 2D network on a volume, slice by slice: resized to the network's in-plane size, or in windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tqdm.auto import tqdm

from ..data.slices import slices_with_neighbors
from .resize_inferer import ResizeInferer, _Network, _plain_float, _Postprocessing, _with_meta_of

__all__ = ["VolumeSliceInferer"]


class VolumeSliceInferer(ResizeInferer):
    """
    Run a 2D network on the slices of a volume and stack the logits in the volume's own size.

    Unlike with ``monai.inferers.SliceInferer``, which cuts windows out of the slices, every slice is resized to
    ``spatial_size`` as a whole and its logits are resized back, unless ``tile`` asks for windows. Only ``batch_size``
    slices exist at network size at any time: a whole volume at 1024 x 1024 with a channel for each class would take
    gigabytes. So do logits of a large volume in its own size (14 classes of 150 x 512 x 512: 2.2 GB); with
    ``postprocessing`` they, too, exist for ``batch_size`` slices only.

    Slices are resized, and mirror images and networks averaged, by the rule of ``ResizeInferer``, which does the same
    for images.

    Args:
        spatial_size: in-plane size that the network runs at, in pixels: one number for both sides, or one for each of
            the two axes that remain without ``slice_axis``. Defaults to None: slices are not resized.
        batch_size: slices, and with ``tile`` windows of as many slices, per forward pass, at least 1. Defaults to 8.
        slice_axis: spatial axis that is cut into slices, -3 to 2. Defaults to -1, the last one.
        output_device: device on which the output for the volume is collected; ``"cpu"`` keeps it off the GPU. Defaults
            to None: the device of the input.
        progress: whether to show a progress bar over the slices. Defaults to False.
        num_neighbors: slices on each side that become channels, as in ``VolumeSliceDataset``. Defaults to 0.
        flips: spatial axes of the volume, 0 to 2, for each mirror image, see ``ResizeInferer``. Defaults to none.
        postprocessing: what is made of the logits of each batch of slices, see ``ResizeInferer``; what it gives is
            stacked to volumes. Defaults to None: the logits are.
        tile: in-plane size of windows at full resolution, see ``ResizeInferer``. Defaults to None: slices are resized.
        overlap: share of a window that the next one covers again, 0 to below 1. Defaults to 0.25.
        overlapping: whether a voxel may have several classes, see ``ResizeInferer``. Defaults to False.

    Raises:
        ValueError: when ``spatial_size``, ``tile`` or ``batch_size`` is not positive, ``overlap`` is not from 0 to
            below 1, ``slice_axis`` is not a spatial axis, ``num_neighbors`` is negative, or ``flips`` is no list of
            lists of different axes or holds a mirror image twice.

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
    _unit = "slice"

    def __init__(
        self,
        spatial_size: int | Sequence[int] | None = None,
        batch_size: int = 8,
        slice_axis: int = -1,
        output_device: str | torch.device | None = None,
        progress: bool = False,
        num_neighbors: int = 0,
        flips: Sequence[Sequence[int]] = (),
        postprocessing: _Postprocessing | None = None,
        tile: int | Sequence[int] | None = None,
        overlap: float = 0.25,
        overlapping: bool = False,
    ) -> None:
        super().__init__(spatial_size, output_device, flips, postprocessing, tile, overlap, batch_size, overlapping)
        if not -3 <= slice_axis <= 2:
            raise ValueError(f"slice_axis must be one of the three spatial axes, -3 to 2, got {slice_axis}.")
        if num_neighbors < 0:
            raise ValueError(f"num_neighbors must be 0 or more slices on each side, got {num_neighbors}.")
        self.slice_axis = slice_axis
        self.progress = progress
        self.num_neighbors = num_neighbors
        # axes of the volume as sides of its slices, 0 and 1, and 2 for the one that is cut
        sides = [axis for axis in range(3) if axis != slice_axis % 3] + [slice_axis % 3]
        self.flips = [tuple(sorted(sides.index(axis) for axis in flip)) for flip in self.flips]

    def __call__(
        self, inputs: torch.Tensor, network: _Network | Sequence[_Network], *args: Any, **kwargs: Any
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """
        Args:
            inputs: volumes, ``(B, C, H, W, D)``, any ``H, W, D >= 1``; integers are converted to float32.
            network: 2D network, ``(N, (2 * num_neighbors + 1) * C, h, w)`` to logits ``(N, K, h', w')``; or
                several, see ``ResizeInferer``.
            args: passed on to ``network``.
            kwargs: passed on to ``network``.

        Returns:
            logits, ``(B, K, H, W, D)``, float32 on ``output_device``; a ``MetaTensor`` with the metadata of ``inputs``
            when that is one. With ``postprocessing`` what it gives, ``(B, ..., H, W, D)``, and by its
            names where that is more than ``pred``.

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

        outputs: dict[str, torch.Tensor] = {}
        with tqdm(total=len(slices) * n_slices, desc="Slices", unit="slice", disable=not self.progress) as bar:
            for case in range(len(slices)):
                for start in range(0, n_slices, self.batch_size):
                    stop = min(start + self.batch_size, n_slices)
                    chunk = slices_with_neighbors(slices[case], start, stop, self.num_neighbors)
                    parts = self._finish(self._predict(chunk, network, *args, **kwargs), volumes)
                    for name, part in parts.items():
                        if name not in outputs:  # how many channels there are is known only now
                            shape = (len(volumes), part.shape[1], *volumes.shape[2:])
                            outputs[name] = torch.empty(shape, dtype=part.dtype, device=part.device)
                        outputs[name].movedim(axis, 1)[case, start:stop] = part
                    bar.update(len(chunk))
        return self._named({name: _with_meta_of(inputs, output) for name, output in outputs.items()})

    def _mirror(self, images: torch.Tensor) -> torch.Tensor:
        """Slices of the volume that is mirrored along the axis of the slices: their neighbors the other way round."""
        return images.unflatten(1, (2 * self.num_neighbors + 1, -1)).flip(1).flatten(1, 2)
