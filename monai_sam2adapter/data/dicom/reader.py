# SPDX-License-Identifier: Apache-2.0
"""Reading the volume of a DICOM series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import SimpleITK as sitk
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import ensure_tuple

from ...utils.logs import escaping_logger
from ..geometry import image_meta
from .series import DicomSeries

__all__ = ["DicomReader"]

logger = escaping_logger(__name__)


class DicomReader(ImageReader):
    """
    Read one DICOM series as a volume, with axes and affine as MONAI's reader for NIfTI gives them.

    Pixels come from SimpleITK, which decodes compressed files without further packages, in the units that the file says
    (rescale slope and intercept; Hounsfield units for CT); order and place of the slices from
    :py:class:`monai_sam2adapter.data.DicomGeometry`, which refuses what is no volume. MONAI's ``PydicomReader`` sorts
    slices by their number, and takes all series of a folder for one.

    It reads a :py:class:`monai_sam2adapter.data.DicomSeries`, by its files alone, or the string of one, whose files it
    finds first.
    """

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Whether it is one series that is there. DICOM files need no extension, so this looks into them."""
        try:
            self.read(filename)
        except (OSError, ValueError):
            return False
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> DicomSeries:
        """
        Find the files of the series; pixels are read in :py:meth:`get_data`.

        Args:
            data: the series, or its address.
            kwargs: not used.

        Returns:
            the series.

        Raises:
            FileNotFoundError: when it is not there.
            ValueError: when it is no DICOM, or there are several.
        """
        addresses = ensure_tuple(data)
        if len(addresses) != 1:
            raise ValueError(f"DicomReader reads one series at a time, got {len(addresses)}; name its folder.")
        return DicomSeries.open(addresses[0])

    def get_data(self, img: DicomSeries) -> tuple[np.ndarray, dict[str, Any]]:
        """
        Args:
            img: what :py:meth:`read` returned.

        Returns:
            the array, ``(columns, rows, slices)``, float32, and its metadata: the affine in RAS coordinates, in mm, and
            the series as ``dicom_series``.

        Raises:
            ValueError: when a file is damaged, has colors, or the files are no volume.
        """
        try:
            geometry = img.geometry()
            array = _read_pixels(img, geometry.order)
        except Exception as error:  # of pydicom and SimpleITK too, which do not tell the series
            raise ValueError(f"{img} cannot be read: {error}") from error
        for note in [*geometry.notes, *img.notes()]:
            logger.warning("%s %s", img, note)
        return array, {**image_meta(array.shape, geometry.affine), "dicom_series": img, "slice_axis": 2}


def _read_pixels(series: DicomSeries, order: Sequence[int]) -> np.ndarray:
    files = series.files
    if len(files) == 1:
        frames = _read_file(files[0])
        if len(frames) != len(order):
            raise ValueError(f"it holds {len(frames)} frames, its header says {len(order)}; get it again")
        frames = frames[list(order)]
    else:  # one by one: SimpleITK's reader of series takes the type of the first file, and its own view of the spacing
        frames = np.concatenate([_read_file(files[index]) for index in order])
    return frames.transpose(2, 1, 0)  # (Z, Y, X) -> (X, Y, Z)


def _read_file(file: PathLike) -> np.ndarray:
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(file), sitk.sitkFloat32))
    return array.reshape(-1, *array.shape[-2:])
