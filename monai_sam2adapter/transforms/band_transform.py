# SPDX-License-Identifier: Apache-2.0
"""The transforms of a picture, on bands of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, NormalizeIntensityd

from ..data.readers import ImageFileReader
from .normalize_channelsd import NormalizeChannelsd
from .require import RequireDimensionsd, RequireFinited

__all__ = ["BandTransform"]

_Bands = Callable[[], Iterable[np.ndarray]]


class BandTransform:
    """
    The transforms of a picture, on bands of it, with the same values: mean and standard deviation, where transforms
    take those of the picture, are computed from all bands first.

    Args:
        preprocessing: ``LoadImaged`` by :py:class:`monai_sam2adapter.data.ImageFileReader`, then
            :py:class:`RequireDimensionsd`, :py:class:`RequireFinited`, :py:class:`NormalizeChannelsd`, or MONAI's
            ``NormalizeIntensityd`` of one channel or of each by itself.
        key: key of the picture. Defaults to "image".

    Attributes:
        reader: what the picture shall be.

    Raises:
        ValueError: when there is another transform, which may look at the whole picture.
    """

    def __init__(self, preprocessing: Compose, key: str = "image") -> None:
        steps = list(preprocessing.flatten().transforms)
        loads = [step for step in steps if isinstance(step, LoadImaged)]
        readers = [reader for step in loads for reader in step._loader.readers if isinstance(reader, ImageFileReader)]
        self.steps: list[Any] = [step for step in steps if not isinstance(step, (LoadImaged, EnsureChannelFirstd))]
        known = (RequireDimensionsd, RequireFinited, NormalizeIntensityd, NormalizeChannelsd)
        others = [type(step).__name__ for step in self.steps if type(step) not in known]
        others += ["NormalizeIntensityd with nonzero" for step in self.steps if _normalizer_of(step, "nonzero")]
        if others or not readers:
            what = f"{', '.join(others)} may look at all of it" if others else "no ImageFileReader loads it"
            raise ValueError(
                f"the picture cannot be read in parts: {what}; take another transform, or a larger max_pixels for a "
                "picture that fits into the memory."
            )
        self.key = key
        self.reader = readers[-1]

    def fit(self, bands: _Bands) -> None:
        """
        Compute what transforms take from the whole picture.

        Args:
            bands: gives all rows of the picture, each once, as of ``PictureRows.read``.
        """
        for number, step in enumerate(self.steps):
            limits = _limits_of(step)
            if limits is None:
                continue
            means, stds = _moments(_values(self._run(band, number), limits) for band in bands())
            if isinstance(step, NormalizeChannelsd):
                own = ({"mean": mean, "std": std or 1.0} for mean, std in zip(means, stds, strict=True))
                merged = [{**figures, **channel} for figures, channel in zip(own, step.normalization, strict=True)]
                self.steps[number] = NormalizeChannelsd(step.keys, merged)
            else:
                if not step.normalizer.channel_wise and len(means) > 1:
                    raise ValueError("NormalizeIntensityd takes one mean of several channels; set channel_wise.")
                figures = np.asarray(means), np.asarray(stds)
                self.steps[number] = NormalizeIntensityd(step.keys, *figures, channel_wise=True)

    def __call__(self, band: np.ndarray) -> torch.Tensor:
        """
        Args:
            band: rows of the picture, ``(rows, W)`` or ``(rows, W, C)``.

        Returns:
            ``(1, C, W, rows)``, float32.
        """
        return self._run(band, len(self.steps))[None]

    def _run(self, band: np.ndarray, number: int) -> torch.Tensor:
        """The channels behind the first transforms, ``(C, W, rows)``."""
        channels = np.moveaxis(band, -1, 0) if band.ndim == 3 else band[None]
        values = torch.from_numpy(np.ascontiguousarray(channels.swapaxes(1, 2)).astype(np.float32))
        items: Mapping[Any, Any] = {self.key: MetaTensor(values)}
        for step in self.steps[:number]:
            items = step(items)
        found = items[self.key]
        return found.as_tensor() if isinstance(found, MetaTensor) else found


def _normalizer_of(step: Any, option: str) -> Any:
    return getattr(step.normalizer, option) if isinstance(step, NormalizeIntensityd) else None


def _limits_of(step: Any) -> Sequence[tuple[float, float] | None] | None:
    """The limits that each channel is clipped to before its figures are computed; None where none are computed."""
    if isinstance(step, NormalizeChannelsd):
        channels = step.normalization
        if all("mean" in channel for channel in channels):
            return None
        return [(channel["lower"], channel["upper"]) if "lower" in channel else None for channel in channels]
    if isinstance(step, NormalizeIntensityd) and step.normalizer.subtrahend is None:
        return ()
    return None


def _values(channels: torch.Tensor, limits: Sequence[tuple[float, float] | None]) -> torch.Tensor:
    """Channels in double precision, clipped, ``(C, pixels)``."""
    values = channels.flatten(1).double()
    for channel, pair in zip(values, limits or [None] * len(values), strict=True):
        if pair is not None:
            channel.clamp_(*pair)
    return values


def _moments(bands: Iterable[torch.Tensor]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over all bands."""
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for values in bands:
        own = values.mean(1)
        distance, total = own - mean, count + values.shape[1]
        squares = squares + (values - own[:, None]).square().sum(1) + distance**2 * (count * values.shape[1] / total)
        mean = mean + distance * (values.shape[1] / total)
        count = total
    return mean.tolist(), (squares / count).sqrt().tolist()
