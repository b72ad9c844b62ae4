# SPDX-License-Identifier: Apache-2.0
"""Run a 2D network on images of any size: resized to the network's size, or in windows at full resolution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SlidingWindowInferer
from monai.utils import convert_to_dst_type, ensure_tuple_rep

from ..utils import resize_images
from .ensembles import average_members
from .flips import average_flips, sorted_flips

__all__ = ["ResizeInferer"]

_Postprocessing = Callable[[Mapping[str, torch.Tensor]], Mapping[str, torch.Tensor]]
_Network = Callable[..., torch.Tensor]


class ResizeInferer(Inferer):
    """
    Run a 2D network on images and give logits of the images' own size; ``VolumeSliceInferer`` does so for volumes.

    Images are resized as by :py:class:`monai_sam2adapter.transforms.ResizeWithLabelsd`: bilinearly, and filtered where
    they become smaller. A network that is trained behind that transform sees the same pixels here.

    Mirror images (test-time augmentation) are averaged: put in the axes that the anatomy allows to be mirrored, best
    those that training has mirrored: a heart in any orientation, but no abdomen, whose liver would be on the left. The
    result is logits again, of the averaged probabilities.

    So are several networks, an ensemble: each at the size of the images, and the mean of them all.

    With ``tile`` images are not resized. The network runs on windows of that size, by MONAI's ``SlidingWindowInferer``:
    their logits are averaged where they overlap, with Gaussian weights, which are small at the borders of a window,
    where the network sees least around a pixel. Images that are smaller are enlarged to the window by repeating their
    border, and cropped again.

    Args:
        spatial_size: size that the network runs at, in pixels: one number for both sides, or ``(h, w)``. Defaults to
            None: images are not resized. Of no effect with ``tile``.
        output_device: device of the logits; ``"cpu"`` keeps them off the GPU. Defaults to None: that of the input.
        flips: a list of spatial axes for each mirror image, such as ``[[0], [1], [0, 1]]``; the image as it is is
            always among the runs. Defaults to none.
        postprocessing: what is made of the logits, such as
            :py:class:`monai_sam2adapter.transforms.SegmentLogitsd`: a transform of ``{"pred": (K, *spatial)}`` that
            looks at one pixel at a time. Defaults to None: the logits are returned.
        tile: size of the windows in pixels, one number for both sides, or ``(h, w)``. Defaults to None: images are
            resized as a whole.
        overlap: share of a window that the next one covers again, 0 to below 1. Defaults to 0.25.
        batch_size: windows per forward pass, at least 1. Defaults to 8.
        overlapping: whether a pixel may have several classes, so that probabilities are a sigmoid of each channel.
            Defaults to False.

    Raises:
        ValueError: when ``spatial_size``, ``tile`` or ``batch_size`` is not positive, ``overlap`` is not from 0 to
            below 1, or ``flips`` is no list of lists of different axes of the
            images or holds a mirror image twice.

    Example:
        >>> import torch
        >>> from monai_sam2adapter.inferers import ResizeInferer
        >>> network = torch.nn.Conv2d(3, 2, kernel_size=3, padding=1)
        >>> with torch.no_grad():
        ...     logits = ResizeInferer(spatial_size=32)(torch.rand(1, 3, 53, 70), network)
        >>> tuple(logits.shape)
        (1, 2, 53, 70)
    """

    #: of the images that it takes
    spatial_dims = 2
    # what a batch is of, for errors
    _unit = "window"

    def __init__(
        self,
        spatial_size: int | Sequence[int] | None = None,
        output_device: str | torch.device | None = None,
        flips: Sequence[Sequence[int]] = (),
        postprocessing: _Postprocessing | None = None,
        tile: int | Sequence[int] | None = None,
        overlap: float = 0.25,
        batch_size: int = 8,
        overlapping: bool = False,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1 {self._unit}, got {batch_size}.")
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap must be a share of the tile from 0 to below 1, got {overlap}.")
        self.spatial_size = None if spatial_size is None else _as_plane(spatial_size, "spatial_size")
        self.tile = None if tile is None else _as_plane(tile, "tile")
        self.overlap = overlap
        self.batch_size = batch_size
        self.overlapping = overlapping
        self.output_device = output_device
        self.flips = sorted_flips(flips)
        if any(axis >= self.spatial_dims for flip in self.flips for axis in flip):
            raise ValueError(
                f"flips has the axis 2, but {type(self).__name__} takes images with the spatial axes 0 and 1, got "
                f"{flips}; leave it out."
            )
        self.postprocessing = postprocessing

    def __call__(
        self, inputs: torch.Tensor, network: _Network | Sequence[_Network], *args: Any, **kwargs: Any
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """
        Args:
            inputs: images, ``(B, C, H, W)``, any ``H, W >= 1``; integers are converted to float32.
            network: 2D network, ``(B, C, h, w)`` to logits ``(B, K, h', w')``; or several in a list or
                ``torch.nn.ModuleList``.
            args: passed on to ``network``.
            kwargs: passed on to ``network``.

        Returns:
            logits, ``(B, K, H, W)``, float32 on ``output_device``; a ``MetaTensor`` with the metadata of ``inputs``
            when that is one. With ``postprocessing`` what it gives, ``(B, ..., H, W)``, and by its names
            where that is more than ``pred``.

        Raises:
            ValueError: when ``inputs`` is not four-dimensional or has no pixels, or the network's output is not
                four-dimensional with one item per image.
            TypeError: when the network returns anything but one tensor.
        """
        if inputs.ndim != 4 or inputs.numel() == 0:
            raise ValueError(
                "ResizeInferer expects images of shape (B, C, H, W) with at least one pixel, got "
                f"{tuple(inputs.shape)}; take VolumeSliceInferer for volumes (B, C, H, W, D)."
            )
        found = self._predict(_plain_float(inputs), network, *args, **kwargs)
        return self._named({name: _with_meta_of(inputs, part) for name, part in self._finish(found, inputs).items()})

    def _finish(self, parts: Mapping[str, torch.Tensor], inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """What is to be returned of a batch of images, ``(N, ..., h, w)`` each, on the output's device."""
        if self.postprocessing is not None:
            # transforms take the channels first; to them a batch of images is one volume
            parts = self.postprocessing({name: part.movedim(1, 0) for name, part in parts.items()})
            parts = {name: part.movedim(0, 1) for name, part in parts.items()}
        return {name: part.to(self.output_device or inputs.device) for name, part in parts.items()}

    def _named(self, parts: dict[str, torch.Tensor]) -> torch.Tensor | dict[str, torch.Tensor]:
        return parts["pred"] if set(parts) == {"pred"} else parts

    def _predict(
        self, images: torch.Tensor, network: _Network | Sequence[_Network], *args: Any, **kwargs: Any
    ) -> dict[str, torch.Tensor]:
        """
        Logits of a batch of images, averaged over the mirror images and the networks, ``(N, C, h, w)`` to
        ``(N, K, h, w)``, float32 at the size of the images, as ``"pred"``; beside them what ``average_members`` adds.
        """
        members = network if isinstance(network, (Sequence, torch.nn.ModuleList)) else [network]

        def predict(member: _Network) -> torch.Tensor:
            def run(batch: torch.Tensor) -> torch.Tensor:
                return self._predict_once(batch, member, *args, **kwargs)

            return average_flips(run, images, self.flips, self._mirror, self.overlapping)

        wants_spread = getattr(self.postprocessing, "uncertainty", False)
        return average_members([partial(predict, member) for member in members], wants_spread, self.overlapping)

    def _mirror(self, images: torch.Tensor) -> torch.Tensor:
        """Images along the axis that is not one of their sides, mirrored: there is none."""
        return images

    def _predict_once(self, images: torch.Tensor, network: _Network, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.tile is None:
            return self._run(images, network, self.spatial_size, *args, **kwargs)
        windows = SlidingWindowInferer(
            self.tile, self.batch_size, self.overlap, mode="gaussian", padding_mode="replicate"
        )
        found: Any = windows(images, lambda batch: self._run(batch, network, None, *args, **kwargs))
        return found

    def _run(
        self, images: torch.Tensor, network: _Network, size: Sequence[int] | None, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """One forward pass, on images resized to ``size``; the logits in the images' own size."""
        logits = network(resize_images(images, size or images.shape[-2:]), *args, **kwargs)
        name = type(self).__name__
        if not isinstance(logits, torch.Tensor):
            raise TypeError(
                f"the network returned a {type(logits).__name__}, {name} expects one tensor of logits; "
                "switch side outputs (deep supervision) off in eval mode, or wrap the network to return one of them."
            )
        if logits.ndim != 4 or len(logits) != len(images):
            raise ValueError(
                f"the network turned images of shape {tuple(images.shape)} into an output of shape "
                f"{tuple(logits.shape)}, {name} expects (N, K, h, w) with N = {len(images)}."
            )
        # float32 before resizing, so that half precision (autocast) costs no more than the network's own rounding
        return resize_images(logits.float(), images.shape[-2:])


def _plain_float(inputs: torch.Tensor) -> torch.Tensor:
    """A plain tensor: metadata of a whole volume means nothing for a batch of its slices."""
    plain = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
    return plain if plain.is_floating_point() else plain.float()


def _with_meta_of(inputs: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Logits, or what was made of them, with the metadata of the input, where that has any."""
    if not isinstance(inputs, MetaTensor):
        return values
    # an empty tensor carries the metadata over without moving the volume between devices
    meta = MetaTensor([]).copy_meta_from(inputs, copy_attr=False)
    return convert_to_dst_type(values, meta, dtype=values.dtype, device=values.device)[0]


def _as_plane(size: int | Sequence[int], name: str) -> tuple[int, int]:
    """One number or two to two, checked."""
    try:
        height, width = ensure_tuple_rep(size, 2)
    except ValueError as error:
        raise ValueError(f"{name} must be one number or two (in-plane pixels), got {size}.") from error
    if height < 1 or width < 1:
        raise ValueError(f"{name} must be positive, got {size}.")
    return int(height), int(width)
