# SPDX-License-Identifier: Apache-2.0
"""Reading NIfTI by one rule for its place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import ensure_tuple

from ...utils import escaping_logger, warn_once
from ..geometry import image_meta
from ..nifti import is_nifti, load_nifti, nifti_place
from .voxel_data import DataFile, require_voxels

__all__ = ["NiftiReader"]

logger = escaping_logger(__name__)


class NiftiReader(ImageReader):
    """
    Read a NIfTI volume, with its place by :py:func:`monai_sam2adapter.data.nifti_place`.

    MONAI's ``NibabelReader`` changes an affine that does not fit ``pixdim``, without a word, and takes micrometers for
    millimeters. Here what a header leaves open or contradicts itself in is logged once a file. A file is read to its
    end, so that changed bytes of a packed one are noticed, which nibabel trusts, and voxels that the header leaves out.
    """

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Whether the file, or all of several, are NIfTI by their names."""
        return all(is_nifti(name) for name in ensure_tuple(filename))

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> nib.Nifti1Image:
        """
        Args:
            data: the file.
            kwargs: not used.

        Returns:
            nibabel's image; voxels are read by :py:meth:`get_data`.

        Raises:
            ValueError: when there is more than one file, it is no NIfTI file, damaged, has no valid header, or a slice
                more or less than that says.
            FileNotFoundError: when there is no such file.
        """
        files = ensure_tuple(data)
        if len(files) != 1:
            raise ValueError(f"NiftiReader reads one file at a time, got {len(files)}: {files}.")
        # first, since a damaged header makes nibabel stumble over anything
        encoding = "gzip" if str(files[0]).lower().endswith(".gz") else "raw"
        size = DataFile(Path(files[0]), encoding=encoding).size(1)
        image = load_nifti(files[0])
        voxels: Any = image.dataobj  # nibabel's header has forgotten where they begin
        expected = math.prod(voxels.shape) * voxels.dtype.itemsize
        note = require_voxels(size - voxels.offset, expected, math.prod(voxels.shape[2:]))
        if note:
            warn_once(logger, str(files[0]), note)
        return image

    def get_data(self, img: nib.Nifti1Image) -> tuple[np.ndarray, dict[str, Any]]:
        """
        Args:
            img: what :py:meth:`read` returned.

        Returns:
            the array, ``(X, Y, Z)``, with further axes where the file has such, and its metadata, with the affine in
            RAS coordinates, in mm, and the header's codes.
        """
        array = np.asanyarray(img.dataobj)
        affine, problem = nifti_place(img)
        if problem:
            warn_once(logger, str(img.get_filename()), problem)
        meta = image_meta(array.shape[:3], affine, channels_last=array.ndim > 3)
        return array, {**meta, **{name: int(img.header[name]) for name in ("qform_code", "sform_code")}}
