# SPDX-License-Identifier: Apache-2.0
"""Random transforms of whole batches on the device of the network."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from monai import transforms as mt
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.engines import default_prepare_batch
from torch.nn import functional as F

from ..data.caching import split_transform
from ..transforms import RandTiled
from ..utils import require_flags

__all__ = ["DeviceTransforms"]

_DRAWN = "drawn"  # key of what was drawn for an item
_KEYS = ("image", "label")
# those whose effect is a matrix: MONAI gives it when they are lazy
_SPATIAL = (mt.RandAffined, mt.RandFlipd, mt.RandAxisFlipd, mt.RandRotate90d, mt.RandSpatialCropd)


class DeviceTransforms:
    """
    Run the random transforms of a data set on batches, where the network is, instead of on items, in worker processes.

    Worker processes only draw: MONAI's own transforms are asked, with the random state of the item, for the matrix of
    all spatial ones together and for the numbers of the others. What is drawn so has MONAI's distribution by
    construction, and depends on seed, epoch and item as before; the noise alone comes from PyTorch's generator on the
    device, seeded for the item. Image and label of the whole batch are then sampled once by ``grid_sample``, and
    intensities changed by a few operations.

    Supported are ``RandAffined``, ``RandFlipd``, ``RandAxisFlipd``, ``RandRotate90d``, ``RandSpatialCropd``, then
    ``RandAdjustContrastd``, ``RandScaleIntensityd``, ``RandShiftIntensityd`` and ``RandGaussianNoised``, and
    ``EnsureTyped`` at the end. Deterministic transforms in front of them stay where they are, and so does
    ``RandTiled``, which makes items of different size equal.

    Args:
        transform: transforms of an item with ``image`` and ``label``, ``(C, H, W)``.
        enabled: whether to do so; else all transforms run on items. Defaults to True.

    Attributes:
        item_transform: what is left for the data set.

    Raises:
        ValueError: when a random transform has no batched form, or in another order, with other keys or options.

    Example:
        >>> from monai.transforms import Compose, RandFlipd
        >>> from monai_sam2adapter.engines import DeviceTransforms
        >>> transforms = DeviceTransforms(Compose([RandFlipd(["image", "label"], prob=1.0, spatial_axis=1)]))
        >>> image = torch.arange(4.0).reshape(1, 1, 4).expand(1, 3, 4)
        >>> item = transforms.item_transform({"image": image, "label": image})
        >>> batch = torch.utils.data.default_collate([item])
        >>> transforms(batch, "cpu")[0][0, 0, 0].tolist()
        [3.0, 2.0, 1.0, 0.0]
    """

    def __init__(self, transform: mt.Compose, enabled: bool = True) -> None:
        require_flags(device_transforms=enabled)
        self.enabled = enabled
        self.item_transform: Callable[[Any], Any] = transform
        if enabled:
            front, rest = split_transform(transform)
            is_tiled = bool(len(rest)) and isinstance(rest.transforms[0], RandTiled)
            of_items = [*front.transforms, *rest.transforms[:is_tiled]]
            self._draw = _DrawRandomd(rest.transforms[is_tiled:])
            self.item_transform = mt.Compose([*of_items, self._draw])

    def __call__(
        self, batchdata: Any, device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
    ) -> Any:
        """
        The ``prepare_batch`` of a trainer.

        Args:
            batchdata: a batch of items of the data set.
            device: device of the network.
            non_blocking: passed on to the copies.
            kwargs: passed on to the copies.

        Returns:
            what ``monai.engines.default_prepare_batch`` does: image and label, ``(B, C, H, W)`` each.
        """
        prepared: Any = default_prepare_batch(batchdata, device, non_blocking, **kwargs)
        if not self.enabled:
            return prepared
        image, label = prepared
        return self._draw.apply(image, label, batchdata[_DRAWN])


class _DrawRandomd(mt.RandomizableTransform):
    """
    Draw for an item what random transforms would do with it, and do it for a batch.

    Args:
        transforms: MONAI's transforms, those of positions first.
    """

    def __init__(self, transforms: Sequence[Any]) -> None:
        super().__init__()
        transforms = deepcopy(transforms)
        self.spatial = [step for step in transforms if type(step) in _SPATIAL]
        self.intensity = [step for step in transforms if type(step) in _INTENSITY]
        for step in self.spatial:
            step.allow_missing_keys = True  # the image tells what happens to its label
        others = list(transforms)[len(self.spatial) + len(self.intensity) :]
        problems = [found for found in map(_problem, transforms) if found]
        # what an affine transform draws from beyond the border depends on what was cropped before
        if any(isinstance(step, mt.RandAffined) for step in list(transforms)[1:]):
            problems.append("RandAffined is not the first")
        if [*self.spatial, *self.intensity, *others] != list(transforms):
            problems.append("they are in another order")
        if problems:
            known = ", ".join(kind.__name__ for kind in (*_SPATIAL, *_INTENSITY))
            raise ValueError(
                f"the random transforms cannot run on batches: {'; '.join(problems)}. Expected are, in this order, "
                f"{known} and EnsureTyped; leave device_transforms out to run them on items."
            )
        self.is_affine = bool(self.spatial) and isinstance(self.spatial[0], mt.RandAffined)
        # the others move whole pixels
        self.modes, self.padding = dict.fromkeys(_KEYS, "nearest"), dict.fromkeys(_KEYS, "border")
        for step in self.spatial[: int(self.is_affine)]:
            self.modes |= {str(key): str(mode) for key, mode in zip(step.keys, step.mode, strict=True)}
            self.padding |= {str(key): str(mode) for key, mode in zip(step.keys, step.padding_mode, strict=True)}

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> _DrawRandomd:
        """One state for all transforms: to make a state for each takes as long as to draw from them."""
        super().set_random_state(seed, state)
        for step in (*self.spatial, *self.intensity):
            step.set_random_state(state=self.R)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The same item, with all that was drawn as ``"drawn"``: a tensor, since each costs time between processes."""
        # no channel: the matrices are noted, and nothing is sampled
        image = MetaTensor(data["image"][:0], affine=torch.eye(3, dtype=torch.float64))
        items: Any = {"image": image}
        for step in self.spatial:
            items = step(items, lazy=True)
        matrix = to_affine_nd(2, items["image"].peek_pending_affine())
        numbers = [*np.ravel(matrix), *items["image"].peek_pending_shape()]
        for step in self.intensity:
            step.randomize(None)
            numbers += [1.0, _INTENSITY[type(step)][0](step)] if step._do_transform else [0.0, 0.0]
        seed = self.R.randint(2**32, dtype=np.uint32)
        return {**data, _DRAWN: torch.tensor([*map(float, numbers), float(seed)], dtype=torch.float64)}

    @torch.no_grad()
    def apply(self, image: torch.Tensor, label: torch.Tensor, drawn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels of a batch, ``(B, C, H, W)``, by what was drawn for its items, ``(B, N)`` on the CPU."""
        if self.spatial:
            grid = _sampling_grid(drawn[:, :9].unflatten(1, (3, 3)), image, drawn[0, 9:11].int().tolist())
            image, label = self._sample("image", image, grid), self._sample("label", label, grid)
        for step, start in zip(self.intensity, range(11, drawn.shape[1], 2), strict=False):
            is_done, values = drawn[:, start].bool(), drawn[:, start + 1]
            image = _INTENSITY[type(step)][1](step, image, is_done, values, drawn[:, -1])
        return image, label

    def _sample(self, key: str, values: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        sampled = F.grid_sample(values.float(), grid, self.modes[key], self.padding[key], align_corners=False)
        return sampled if self.is_affine else sampled.to(values.dtype)  # RandAffined makes float32 of labels, too


def _problem(step: Any) -> str:
    """Why a transform cannot run on batches; empty when it can."""
    name = type(step).__name__
    if isinstance(step, mt.EnsureTyped):
        return "" if set(step.dtype) == {None} else f"{name} has a dtype"
    if type(step) not in (*_SPATIAL, *_INTENSITY):
        return f"{name} has no batched form"
    keys = _KEYS if type(step) in _SPATIAL else ("image",)
    if sorted(step.keys) != sorted(keys):
        return f"{name} has the keys {step.keys}, not {keys}"
    for part in (step, *vars(step).values()):
        for option in ("channel_wise", "invert_image", "safe"):
            if getattr(part, option, False):
                return f"{name} has {option}"
    return ""


def _sampling_grid(matrices: torch.Tensor, images: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """
    Where each pixel of the result comes from, for ``grid_sample``.

    Args:
        matrices: indices (row, column, 1) of pixels of the result to those of the image, ``(B, 3, 3)``.
        images: the images, ``(B, C, H, W)``.
        size: rows and columns of the result.

    Returns:
        ``(B, *size, 2)``, in the order column, row, from -1 to 1 between the outer corners.
    """
    to_result = torch.linalg.inv(_to_corners(size))
    theta = _to_corners(images.shape[-2:]) @ matrices.double() @ to_result
    theta = theta[:, [1, 0]][:, :, [1, 0, 2]].to(images.device, torch.float32)
    return F.affine_grid(theta, [len(images), 1, *size], align_corners=False)


def _to_corners(size: Sequence[int]) -> torch.Tensor:
    """From indices (row, column, 1) to -1 .. 1 between the outer corners of an image."""
    scale = torch.tensor([2.0 / side for side in (*size, 2)], dtype=torch.float64)
    matrix = torch.diag(scale)
    matrix[:2, 2] = scale[:2] / 2 - 1
    return matrix


def _draw_gamma(step: mt.RandAdjustContrastd) -> float:
    step.adjuster.randomize(None)
    return step.adjuster.gamma_value


def _draw_factor(step: mt.RandScaleIntensityd) -> float:
    step.scaler.randomize(None)
    return step.scaler.factor


def _draw_offset(step: mt.RandShiftIntensityd) -> float:
    step.shifter.randomize(None)
    return step.shifter._offset


def _draw_std(step: mt.RandGaussianNoised) -> float:
    noise = step.rand_gaussian_noise
    mt.RandomizableTransform.randomize(noise, None)  # its own method would draw the noise, too
    return noise.R.uniform(0, noise.std) if noise.sample_std else noise.std


def _per_image(values: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return values.to(images.device, images.dtype)[:, None, None, None]


def _adjust_contrast(
    step: mt.RandAdjustContrastd,
    images: torch.Tensor,
    is_done: torch.Tensor,
    gamma: torch.Tensor,
    seeds: torch.Tensor,
) -> torch.Tensor:
    """As ``monai.transforms.AdjustContrast``, image by image."""
    dims = (1, 2, 3)
    low = images.amin(dims, keepdim=True)
    span = images.amax(dims, keepdim=True) - low
    changed = ((images - low) / (span + 1e-7)) ** _per_image(gamma, images) * span + low
    if step.adjuster.retain_stats:
        std, mean = torch.std_mean(images, dims, keepdim=True)
        changed = changed - changed.mean(dims, keepdim=True)
        changed = std * (changed / (changed.std(dims, keepdim=True) + 1e-8)) + mean
    return torch.where(_per_image(is_done, images).bool(), changed, images)


def _scale(
    step: Any, images: torch.Tensor, is_done: torch.Tensor, factors: torch.Tensor, seeds: torch.Tensor
) -> torch.Tensor:
    return images * (1 + _per_image(factors, images))  # 0 where it is not done


def _shift(
    step: Any, images: torch.Tensor, is_done: torch.Tensor, offsets: torch.Tensor, seeds: torch.Tensor
) -> torch.Tensor:
    return images + _per_image(offsets, images)


def _add_noise(
    step: mt.RandGaussianNoised, images: torch.Tensor, is_done: torch.Tensor, std: torch.Tensor, seeds: torch.Tensor
) -> torch.Tensor:
    images = images.clone()
    generator = torch.Generator(images.device)
    for number in is_done.nonzero().flatten().tolist():
        generator.manual_seed(int(seeds[number]))
        noise = torch.randn(images.shape[1:], generator=generator, device=images.device, dtype=images.dtype)
        images[number] += noise * std[number].item() + step.rand_gaussian_noise.mean
    return images


# by its class how a transform draws its number, and what it does with images
_INTENSITY: dict[type, tuple[Callable[[Any], float], Callable[..., torch.Tensor]]] = {
    mt.RandAdjustContrastd: (_draw_gamma, _adjust_contrast),
    mt.RandScaleIntensityd: (_draw_factor, _scale),
    mt.RandShiftIntensityd: (_draw_offset, _shift),
    mt.RandGaussianNoised: (_draw_std, _add_noise),
}
