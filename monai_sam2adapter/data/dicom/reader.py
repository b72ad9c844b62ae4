# SPDX-License-Identifier: Apache-2.0
"""Reading DICOM series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

from .geometry import DicomGeometry
from .series import DicomSeries

__all__ = ["DicomReader"]


class DicomReader(ImageReader):
    """
    Read one DICOM series as a volume, with axes and affine as MONAI's reader for NIfTI gives them.

    Pixels come from SimpleITK, which decodes compressed files without further packages, in the units that the file says
    (rescale slope and intercept; Hounsfield units for CT); order and place of the slices from
    :py:class:`monai_sam2adapter.data.DicomGeometry`, which refuses what is no volume. MONAI's ``PydicomReader`` sorts
    slices by their number, and takes all series of a folder for one.

    It reads what :py:class:`monai_sam2adapter.data.DicomSeries` addresses: ``FOLDER#series=UID``, a folder with one
    series, or a file, with one frame or several.
    """

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """
        Args:
            filename: one address or several.

        Returns:
            whether it is one series that is there. DICOM files need no extension, so this looks into them.
        """
        try:
            self.read(filename)
        except (OSError, ValueError):
            return False
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> DicomSeries:
        """
        Find the files of the series; headers and pixels are read in :py:meth:`get_data`.

        Args:
            data: the address.
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
            the array, ``(columns, rows, slices)``, float32, and its metadata, with the affine in RAS coordinates, in
            mm.

        Raises:
            ValueError: when a file is damaged, has colors, or the files are no volume.
        """
        try:
            geometry, array = _read_volume(img)
        except Exception as error:  # of pydicom and SimpleITK too, which do not tell the series
            raise ValueError(f"{img.address} cannot be read: {error}") from error
        meta = {
            MetaKeys.ORIGINAL_AFFINE: geometry.affine,
            MetaKeys.AFFINE: geometry.affine.copy(),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.SPATIAL_SHAPE: np.asarray(array.shape),
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
        }
        return array, {str(key): value for key, value in meta.items()}


def _read_volume(series: DicomSeries) -> tuple[DicomGeometry, np.ndarray]:
    headers = [_read_header(file) for file in series.files]
    colored = [header for header in headers if header.get("SamplesPerPixel", 1) != 1]
    if colored:
        raise ValueError(f"it has colors ({colored[0].get('PhotometricInterpretation')}), expected gray values")
    geometry = DicomGeometry.of(headers)
    if len(headers) == 1:
        _require_one_scale(headers[0])
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(series.files[0]), sitk.sitkFloat32))
        array = array[np.newaxis] if array.ndim == 2 else array
        array = array[list(geometry.order)]
    else:  # one by one: SimpleITK's reader of series takes the type of the first file, and its own view of the spacing
        files = [series.files[index] for index in geometry.order]
        slices = [sitk.GetArrayFromImage(sitk.ReadImage(str(file), sitk.sitkFloat32)) for file in files]
        array = np.stack([pixels.reshape(pixels.shape[-2:]) for pixels in slices])
    return geometry, array.transpose(2, 1, 0)  # (Z, Y, X) -> (X, Y, Z)


def _read_header(file: Path) -> pydicom.Dataset:
    try:
        header = pydicom.dcmread(file, force=True, stop_before_pixels=True)
    except Exception as error:  # whatever pydicom stumbles over
        raise ValueError(f"{file.name} is damaged ({error})") from error
    if "Rows" not in header:
        raise ValueError(f"{file.name} is damaged: it has no image")
    return header


def _require_one_scale(header: pydicom.Dataset) -> None:
    """SimpleITK rescales all frames of a file by the numbers of its first one."""
    scales = set()
    for group in header.get("PerFrameFunctionalGroupsSequence") or []:
        for item in group.get("PixelValueTransformationSequence") or []:
            scales.add((float(item.RescaleSlope), float(item.RescaleIntercept)))
    if len(scales) > 1:
        raise ValueError("its frames have different rescale slopes, expected one for all; convert it")
