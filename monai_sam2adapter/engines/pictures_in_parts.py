# SPDX-License-Identifier: Apache-2.0
"""Inference on pictures too large for the memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose

from ..data.readers import PictureRows, open_rows
from ..inferers import ResizeInferer
from ..inferers.bands import predict_in_bands
from ..transforms import SaveSegmentationd
from ..transforms.band_transform import BandTransform
from ..utils import escaping_logger

__all__ = ["PicturesInParts"]

logger = escaping_logger(__name__)

_LARGEST_OVERLAY = 2048  # pixels of the larger side of what is drawn


class PicturesInParts:
    """
    Read, segment and write a picture band by band, so that neither it nor its result is ever whole in memory.

    Values, windows and results are those of the picture as a whole: see
    ``monai_sam2adapter.data.readers.open_rows`` for what is read in parts, and
    :py:func:`monai_sam2adapter.inferers.predict_in_bands` for the windows.

    Args:
        preprocessing: the transforms of pictures, from ``LoadImaged`` on.
        inferer: with a ``tile``.
        saver: what writes results.
        largest_component: whether the largest part of each class shall be kept, for which all of the result is looked
            at: such a picture is refused. Defaults to False.
    """

    def __init__(
        self,
        preprocessing: Compose,
        inferer: ResizeInferer,
        saver: SaveSegmentationd,
        largest_component: bool = False,
    ) -> None:
        self.preprocessing = preprocessing
        self.inferer = inferer
        self.saver = saver
        self.largest_component = largest_component

    def __call__(self, file: str, case: str, networks: Any, device: torch.device) -> dict[str, torch.Tensor]:
        """
        Segment a picture and write what is found.

        Args:
            file: the picture, or ``FILE#page=N`` of a TIFF.
            case: its name, for the results.
            networks: as of the inferer, in eval mode.
            device: where they are.

        Returns:
            ``"image"``, ``(1, C, w, h)``, and ``"pred"``, ``(1, 1, w, h)``, to look at: every n-th pixel.

        Raises:
            ValueError: when it cannot be read, or not in parts.
        """
        if self.largest_component:
            raise ValueError(
                f"largest_component looks at the whole result, but {file} has more pixels than max_pixels and is "
                "segmented in parts; leave it out, or give a larger max_pixels for a picture that fits into the memory."
            )
        if self.saver.scheme.overlapping:
            raise ValueError(
                f"classes that overlap are not written in parts, but {file} has more pixels than max_pixels; make the "
                "picture smaller, or give a larger max_pixels for one that fits into the memory."
            )
        transform = BandTransform(self.preprocessing)
        with open_rows(file, transform.reader) as rows:
            size = rows.width, rows.height
            height = (self.inferer.tile or size)[1]
            logger.info("%s: %d x %d pixels are segmented in bands of %d rows", case, *size, height)
            transform.fit(lambda: _bands(rows, height))
            bands = predict_in_bands(
                self.inferer, lambda start, stop: transform(rows.read(start, stop)).to(device), size, networks
            )
            shown = _Reduced(max(1, -(-max(size) // _LARGEST_OVERLAY)))
            self.saver.save_in_parts(case, size, shown.note(bands))
        return shown.result()


class _Reduced:
    """Every n-th pixel of bands that pass by."""

    def __init__(self, step: int) -> None:
        self.step, self.row = step, 0
        self.parts: list[tuple[torch.Tensor, torch.Tensor]] = []

    def note(self, bands: Iterator[tuple[torch.Tensor, dict[str, torch.Tensor]]]) -> Iterator[dict[str, torch.Tensor]]:
        """What was found, as it comes."""
        for image, found in bands:
            # copies: a view would keep the whole band
            thin = (..., slice(None, None, self.step), slice(-self.row % self.step, None, self.step))
            self.parts.append((image[thin].cpu().clone(), found["pred"][thin].cpu().clone()))
            self.row += image.shape[-1]
            yield found

    def result(self) -> dict[str, torch.Tensor]:
        """The picture and its segmentation, small."""
        image, prediction = (torch.cat(parts, dim=-1) for parts in zip(*self.parts, strict=True))
        return {"image": image, "pred": prediction}


def _bands(rows: PictureRows, height: int) -> Iterator[np.ndarray]:
    for start in range(0, rows.height, height):
        yield rows.read(start, min(start + height, rows.height))
