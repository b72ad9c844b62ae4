# SPDX-License-Identifier: Apache-2.0
"""Run a 2D network on a volume, slice by slice, at the network's own in-plane size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.utils import convert_to_dst_type, ensure_tuple_rep
from torch.nn.functional import interpolate
from tqdm.auto import tqdm

__all__ = ["VolumeSliceInferer"]


class VolumeSliceInferer(Inferer):
    """
    Run a 2D network on the slices of a volume and stack the logits in the volume's own size.

    Unlike ``monai.inferers.SliceInferer``, which cuts windows out of the slices, every slice is resized to
    ``spatial_size`` as a whole and its logits are resized back. Only ``batch_size`` slices exist at network size at any
    time: a whole volume at 1024 x 1024 with a channel for each class would take gigabytes.

    Slices are resized by the rule of ``monai.transforms.Resized(mode="bilinear")`` with its other arguments at their
    defaults (half-pixel centers, no anti-aliasing): a network trained behind that transform sees the same pixels here.

    Args:
        spatial_size: in-plane size that the network runs at, in pixels: one number for both sides, or one for each of
            the two axes that remain without ``slice_axis``. Defaults to None: slices are not resized.
        batch_size: slices per forward pass, at least 1. Defaults to 8.
        slice_axis: spatial axis that is cut into slices, -3 to 2. Defaults to -1, the last one.
        output_device: device on which the logits of the volume are collected; ``"cpu"`` keeps them off the GPU.
            Defaults to None: the device of the input.
        progress: whether to show a progress bar over the slices. Defaults to False.

    Raises:
        ValueError: when ``spatial_size`` or ``batch_size`` is not positive, or ``slice_axis`` is not a spatial axis.

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

    def __init__(
        self,
        spatial_size: int | Sequence[int] | None = None,
        batch_size: int = 8,
        slice_axis: int = -1,
        output_device: str | torch.device | None = None,
        progress: bool = False,
    ) -> None:
        super().__init__()
        self.spatial_size = None if spatial_size is None else _as_plane(spatial_size)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1 slice, got {batch_size}.")
        if not -3 <= slice_axis <= 2:
            raise ValueError(f"slice_axis must be one of the three spatial axes, -3 to 2, got {slice_axis}.")
        self.batch_size = batch_size
        self.slice_axis = slice_axis
        self.output_device = output_device
        self.progress = progress

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """
        Args:
            inputs: volumes, ``(B, C, H, W, D)``, any ``H, W, D >= 1``; integers are converted to float32.
            network: 2D network, ``(N, C, h, w)`` to logits ``(N, K, h', w')``.
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
                f"{tuple(inputs.shape)}; run the network directly (monai.inferers.SimpleInferer) on 2D images."
            )
        # Plain tensors inside: metadata of a whole volume means nothing for a batch of its slices.
        volumes = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        volumes = volumes if volumes.is_floating_point() else volumes.float()
        axis = 2 + self.slice_axis % 3
        slices = volumes.movedim(axis, 1)  # (B, C, H, W, D) -> (B, S, C, h, w), S slices
        n_slices = slices.shape[1]

        output: torch.Tensor | None = None
        with tqdm(total=len(slices) * n_slices, desc="Slices", unit="slice", disable=not self.progress) as bar:
            for case in range(len(slices)):
                for start in range(0, n_slices, self.batch_size):
                    chunk = slices[case, start : start + self.batch_size]
                    logits = self._predict(chunk, network, *args, **kwargs)
                    if output is None:  # the number of classes is known only now
                        shape = (len(volumes), logits.shape[1], *volumes.shape[2:])
                        output = torch.empty(shape, device=self.output_device or volumes.device)
                    output.movedim(axis, 1)[case, start : start + len(chunk)] = logits.to(output.device)
                    bar.update(len(chunk))
        if isinstance(inputs, MetaTensor):
            # an empty tensor carries the metadata over without moving the volume between devices
            meta = MetaTensor([]).copy_meta_from(inputs, copy_attr=False)
            return convert_to_dst_type(output, meta, dtype=torch.float32, device=output.device)[0]  # type: ignore[union-attr]
        return output  # type: ignore[return-value]

    def _predict(self, slices: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """Logits of a batch of slices, ``(N, C, h, w)`` to ``(N, K, h, w)``, float32 at the size of the slices."""
        logits = network(_resize(slices, self.spatial_size or slices.shape[-2:]), *args, **kwargs)
        if not isinstance(logits, torch.Tensor):
            raise TypeError(
                f"the network returned a {type(logits).__name__}, VolumeSliceInferer expects one tensor of logits; "
                "switch side outputs (deep supervision) off in eval mode, or wrap the network to return one of them."
            )
        if logits.ndim != 4 or len(logits) != len(slices):
            raise ValueError(
                f"the network turned slices of shape {tuple(slices.shape)} into an output of shape "
                f"{tuple(logits.shape)}, VolumeSliceInferer expects (N, K, h, w) with N = {len(slices)}."
            )
        # float32 before resizing, so that half precision (autocast) costs no more than the network's own rounding
        return _resize(logits.float(), slices.shape[-2:])


def _as_plane(spatial_size: int | Sequence[int]) -> tuple[int, int]:
    """One number or two to two, checked."""
    try:
        height, width = ensure_tuple_rep(spatial_size, 2)
    except ValueError as error:
        raise ValueError(f"spatial_size must be one number or two (in-plane pixels), got {spatial_size}.") from error
    if height < 1 or width < 1:
        raise ValueError(f"spatial_size must be positive, got {spatial_size}.")
    return int(height), int(width)


def _resize(images: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Resize ``(N, C, h, w)`` in-plane by the rule of MONAI's bilinear ``Resize``, which leaves equal sizes alone."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return interpolate(images, size=tuple(size), mode="bilinear")
