# SPDX-License-Identifier: Apache-2.0
"""Reading volumes: NIfTI, NRRD, MetaImage and DICOM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from monai.config import PathLike
from monai.data import ImageReader, is_supported_format
from monai.utils import MetaKeys, ensure_tuple

from ...utils import escaping_logger, warn_once
from ..dicom import DicomReader, DicomSeries
from ..geometry import LPS_TO_RAS, image_meta, place_problem, shape_problem
from ..pixel_values import precision_problem
from .nifti import NiftiReader
from .text_headers import TextHeader, read_text_header
from .voxel_data import require_parts

__all__ = ["SimpleITKReader", "VolumeReader"]

logger = escaping_logger(__name__)

# what a header says beside what SimpleITK reads, kept with its image
_SLOPE, _INTERCEPT, _IS_STATED = "monai_sam2adapter_slope", "monai_sam2adapter_intercept", "monai_sam2adapter_is_stated"


class VolumeReader(ImageReader):
    """
    Read a volume by the reader for its kind: NIfTI by :py:class:`NiftiReader`, NRRD and MetaImage by
    :py:class:`SimpleITKReader`, DICOM by :py:class:`monai_sam2adapter.data.DicomReader`.

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
        self.readers: tuple[ImageReader, ...] = (NiftiReader(), SimpleITKReader(), DicomReader())

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Whether a reader is for the file, DICOM series or address of one."""
        return any(reader.verify_suffix(filename) for reader in self.readers)

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Sequence[PathLike]:
        """
        Leave the reading to :py:meth:`get_data`, whose errors MONAI passes on as they are.

        Args:
            data: file name, DICOM series or address of one.
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
            ValueError: when it cannot be read, is of another kind, or no volume: a 2D image, more or less volumes than
                ``channels``, volumes of different places, without any voxel, voxels that are no real numbers or lost in
                single precision, or DICOM whose slices do not make up one. The message names the file.
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
        by_name = () if isinstance(img[0], DicomSeries) else self.readers[:2]
        reader = next((reader for reader in by_name if reader.verify_suffix(img)), self.readers[2])
        array, meta = reader.get_data(reader.read(img)) if reader is self.readers[2] else _read_file(reader, img[0])
        _require_volume(array, str(img[0]), channels)
        return array, meta


def _read_file(reader: ImageReader, file: PathLike) -> tuple[np.ndarray, dict[str, Any]]:
    if not Path(file).is_file():
        raise FileNotFoundError(f"no file {file}")
    try:
        return reader.get_data(reader.read(file))
    # a damaged file makes nibabel, gzip, zlib and SimpleITK raise whatever they stumble over, mostly without its name
    except Exception as error:
        reason = str(error).removeprefix(f"{file} ")
        raise ValueError(f"{file} cannot be read ({Path(file).stat().st_size} bytes): {reason}") from error


def _require_volume(array: np.ndarray, file: str, channels: int | None) -> None:
    shape = array.shape
    if 0 in shape:
        raise ValueError(f"{file} holds no voxels; get it again")
    if array.dtype.kind not in "biuf":
        kind = "complex numbers" if array.dtype.kind == "c" else f"voxels of {array.dtype}"
        raise ValueError(f"{file} holds {kind}, expected one real number a voxel; save the part that is meant")
    problem = precision_problem(array)
    if problem:
        raise ValueError(f"{file} {problem}")
    size = " x ".join(map(str, shape[:3]))
    if len(shape) < 3:
        raise ValueError(f"{file} is a {len(shape)}D image of {size} pixels; expected a volume (3D)")
    count = math.prod(shape[3:])
    if channels not in (None, 1, count):
        raise ValueError(f"{file} holds {count} volumes of {size} voxels; expected {channels}, one a channel")
    if channels == 1 and count > 1:
        raise ValueError(f"{file} holds {count} volumes ({len(shape)}D) of {size} voxels; split it into one file each")


class SimpleITKReader(ImageReader):
    """
    Read a volume by SimpleITK, with axes and affine as MONAI's reader for NIfTI gives them.

    It serves NRRD and MetaImage, which MONAI reads with packages that are not installed with this one (itk, pynrrd).
    SimpleITK reads less than their headers say: here units, slope and offset of the values count, all voxels are there
    and whole, data files lie beside their header, and what a header leaves open or contradicts itself in is refused, or
    logged once a file with what is taken.

    In a config put it before MONAI's reader, which is then tried first:
    ``"reader": ["monai_sam2adapter.data.SimpleITKReader", "NibabelReader"]``.
    """

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Whether the file, or all of several, have the extension of a format that this reader is for."""
        return is_supported_format(filename, ["nrrd", "mha", "mhd"])

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> sitk.Image:
        """
        Args:
            data: the file.
            kwargs: passed on to ``SimpleITK.ReadImage``.

        Returns:
            SimpleITK's image, in mm.

        Raises:
            ValueError: when there is more than one file, it is neither NRRD nor MetaImage, its header says what
                cannot be followed, or not all voxels are there.
            RuntimeError: when SimpleITK cannot read it.
        """
        files = ensure_tuple(data)
        if len(files) != 1:
            raise ValueError(f"SimpleITKReader reads one file at a time, got {len(files)}: {files}.")
        header = read_text_header(Path(files[0]))
        notes = [*header.warnings(), _require_data(str(files[0]), header)]
        image = sitk.ReadImage(str(files[0]), **kwargs)
        image.SetSpacing([*(side * header.unit for side in image.GetSpacing()[:3]), *image.GetSpacing()[3:]])
        image.SetOrigin([*(side * header.unit for side in image.GetOrigin()[:3]), *image.GetOrigin()[3:]])
        for key, value in ((_SLOPE, header.slope), (_INTERCEPT, header.intercept), (_IS_STATED, header.is_stated)):
            image.SetMetaData(key, repr(float(value)))
        for note in filter(None, notes):
            warn_once(logger, str(files[0]), note)
        return image

    def get_data(self, img: sitk.Image) -> tuple[np.ndarray, dict[str, Any]]:
        """
        Args:
            img: what :py:meth:`read` returned.

        Returns:
            the array, ``(X, Y, Z)``, or ``(X, Y, Z, C)`` for several values a voxel, and its metadata, with the affine
            in RAS coordinates, in mm.
        """
        dimension = img.GetDimension()
        array = sitk.GetArrayFromImage(img)  # (Z, Y, X) or (Z, Y, X, C)
        array = array.transpose(*reversed(range(dimension)), *range(dimension, array.ndim))
        slope, intercept, is_stated = (
            float(img.GetMetaData(key)) if img.HasMetaDataKey(key) else default
            for key, default in ((_SLOPE, 1.0), (_INTERCEPT, 0.0), (_IS_STATED, 1.0))
        )
        if (slope, intercept) != (1, 0):
            array = array * slope + intercept  # double precision, as nibabel has it
        meta = image_meta(img.GetSize(), _affine(img), channels_last=array.ndim > dimension)
        return array, {**meta, "is_stated": bool(is_stated)}


def _require_data(file: str, header: TextHeader) -> str:
    """See ``require_parts``; the header alone is read by SimpleITK, for the type of the voxels and their number."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    reader.ReadImageInformation()
    size, pixel_type = reader.GetSize(), reader.GetPixelID()
    is_vector = "vector" in sitk.GetPixelIDValueAsString(pixel_type)
    voxel = sitk.Image([1] * len(size), pixel_type, reader.GetNumberOfComponents() if is_vector else 0)
    expected = math.prod(size) * sitk.GetArrayViewFromImage(voxel).nbytes
    return require_parts(header.data, expected, voxel.GetSizeOfPixelComponent(), math.prod(size[2:]))


def _affine(img: sitk.Image) -> np.ndarray:
    """Voxel indices to RAS coordinates in mm, 4 x 4; a 2D image lies in the plane z = 0."""
    dimension = min(img.GetDimension(), 3)
    direction = np.asarray(img.GetDirection()).reshape(img.GetDimension(), -1)[:dimension, :dimension]
    affine = np.eye(4)
    affine[:dimension, :dimension] = direction * np.asarray(img.GetSpacing())[:dimension]
    affine[:dimension, 3] = img.GetOrigin()[:dimension]
    return LPS_TO_RAS @ affine
