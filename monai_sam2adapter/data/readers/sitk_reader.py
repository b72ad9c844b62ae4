# SPDX-License-Identifier: Apache-2.0
"""Reading volumes that are not NIfTI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import SimpleITK as sitk
from monai.config import PathLike
from monai.data import ImageReader, is_supported_format
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

__all__ = ["SimpleITKReader"]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class SimpleITKReader(ImageReader):
    """
    Read a volume by SimpleITK, with axes and affine as MONAI's reader for NIfTI gives them.

    It serves NRRD and MetaImage, which MONAI reads with packages that are not installed with this one (itk, pynrrd). In
    a config put it before MONAI's reader, which is then tried first:
    ``"reader": ["monai_sam2adapter.data.SimpleITKReader", "NibabelReader"]``.
    """

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """
        Args:
            filename: one file name or several.

        Returns:
            whether all of them are of a format that this reader is for.
        """
        return is_supported_format(filename, ["nrrd", "mha", "mhd"])

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> sitk.Image:
        """
        Args:
            data: the file.
            kwargs: passed on to ``SimpleITK.ReadImage``.

        Returns:
            SimpleITK's image.

        Raises:
            ValueError: when there is more than one file.
            RuntimeError: when SimpleITK cannot read it.
        """
        files = ensure_tuple(data)
        if len(files) != 1:
            raise ValueError(f"SimpleITKReader reads one file at a time, got {len(files)}: {files}.")
        return sitk.ReadImage(str(files[0]), **kwargs)

    def get_data(self, img: sitk.Image) -> tuple[np.ndarray, dict[str, Any]]:
        """
        Args:
            img: what :meth:`read` returned.

        Returns:
            the array, ``(X, Y, Z)``, or ``(X, Y, Z, C)`` for several values a voxel, and its metadata, with the affine
            in RAS coordinates, in mm.
        """
        size, dimension = img.GetSize(), img.GetDimension()
        array = sitk.GetArrayFromImage(img)  # (Z, Y, X) or (Z, Y, X, C)
        array = array.transpose(*reversed(range(dimension)), *range(dimension, array.ndim))
        affine = _affine(img)
        meta = {
            MetaKeys.ORIGINAL_AFFINE: affine,
            MetaKeys.AFFINE: affine.copy(),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.SPATIAL_SHAPE: np.asarray(size),
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan") if array.ndim == dimension else -1,
        }
        return array, {str(key): value for key, value in meta.items()}


def _affine(img: sitk.Image) -> np.ndarray:
    """Voxel indices to RAS coordinates in mm, 4 x 4; a 2D image lies in the plane z = 0."""
    dimension = min(img.GetDimension(), 3)
    direction = np.asarray(img.GetDirection()).reshape(img.GetDimension(), -1)[:dimension, :dimension]
    affine = np.eye(4)
    affine[:dimension, :dimension] = direction * np.asarray(img.GetSpacing())[:dimension]
    affine[:dimension, 3] = img.GetOrigin()[:dimension]
    return _LPS_TO_RAS @ affine
