# SPDX-License-Identifier: Apache-2.0
"""Reading a volume of any kind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader, NibabelReader
from monai.utils import MetaKeys, ensure_tuple

from ..dicom.reader import DicomReader
from ..geometry import place_problem, shape_problem
from .sitk_reader import SimpleITKReader

__all__ = ["VolumeReader"]


class VolumeReader(ImageReader):
    """
    Read a volume by the reader for its kind: NIfTI by MONAI's, NRRD and MetaImage by
    :py:class:`monai_sam2adapter.data.SimpleITKReader`, DICOM by :py:class:`monai_sam2adapter.data.DicomReader`.

    Of a list of readers MONAI tries one after the other, and when the right one fails it answers that none is suitable.
    With this one the user sees what is wrong with the file.

    Args:
        channels: how many volumes an image is made of: one file that holds them all, or a list with one file each, in
            the order of the channels and all in one place; None for any number. Defaults to 1.

    Raises:
        ValueError: when ``channels`` is below 1.
    """

    def __init__(self, channels: int | None = 1) -> None:
        super().__init__()
        if channels is not None and channels < 1:
            raise ValueError(f"channels is {channels}, expected at least 1.")
        self.channels = channels
        self.readers: tuple[ImageReader, ...] = (NibabelReader(), SimpleITKReader(), DicomReader())

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """
        Args:
            filename: one file name or address of a DICOM series.

        Returns:
            whether a reader is for it.
        """
        return any(reader.verify_suffix(filename) for reader in self.readers)

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Sequence[PathLike]:
        """
        Leave the reading to :py:meth:`get_data`, whose errors MONAI passes on as they are.

        Args:
            data: file name or address.
            kwargs: not used.

        Returns:
            the same, in a tuple.
        """
        return ensure_tuple(data)

    def get_data(self, img: Sequence[PathLike]) -> tuple[np.ndarray, dict[str, Any]]:
        """
        Args:
            img: what :py:meth:`read` returned.

        Returns:
            the array, ``(X, Y, Z)``, with a last axis for the channels where the file has one or there are several
            files, and its metadata, with the affine in RAS coordinates, in mm.

        Raises:
            FileNotFoundError: when it is not there.
            ValueError: when it is of another kind, or no volume: a 2D image, more or less volumes than ``channels``,
                volumes of different places, without any voxel, or DICOM whose slices do not make up one.
        """
        if len(img) == 1:
            return self._read_one(img, self.channels)
        if self.channels is not None and len(img) != self.channels:
            raise ValueError(
                f"{', '.join(map(str, img))}: got {len(img)} files, expected {self.channels}, one a channel"
            )
        volumes = [self._read_one((file,), 1) for file in img]
        array, meta = volumes[0]
        shape = array.shape[:3]
        for (other, other_meta), file in zip(volumes, img, strict=True):
            problem = shape_problem(shape, other.shape[:3])
            problem = problem or place_problem(shape, meta[MetaKeys.AFFINE], other_meta[MetaKeys.AFFINE])
            if problem:
                raise ValueError(f"{file} {problem} ({img[0]}); the channels of an image must be of one place")
        array = np.stack([volume.reshape(shape) for volume, _ in volumes], axis=-1)
        return array, {**meta, str(MetaKeys.ORIGINAL_CHANNEL_DIM): -1}

    def _read_one(self, img: Sequence[PathLike], channels: int | None) -> tuple[np.ndarray, dict[str, Any]]:
        # a file that is not what its name says is for that reader to complain of; what has no such name may be DICOM
        reader = next((reader for reader in self.readers[:2] if reader.verify_suffix(img)), self.readers[2])
        array, meta = reader.get_data(reader.read(img))
        _require_volume(array.shape, str(img[0]), channels)
        return array, meta


def _require_volume(shape: tuple[int, ...], file: str, channels: int | None) -> None:
    if 0 in shape:
        raise ValueError(f"{file} holds no voxels; get it again")
    size = " x ".join(map(str, shape[:3]))
    if len(shape) < 3:
        raise ValueError(f"{file} is a {len(shape)}D image of {size} pixels; expected a volume (3D)")
    count = math.prod(shape[3:])
    if channels not in (None, 1, count):
        raise ValueError(f"{file} holds {count} volumes of {size} voxels; expected {channels}, one a channel")
    if channels == 1 and count > 1:
        raise ValueError(f"{file} holds {count} volumes ({len(shape)}D) of {size} voxels; split it into one file each")
