# SPDX-License-Identifier: Apache-2.0
"""Reading the arrays of abdominal CT that the authors of TransUNet made and most of its successors train on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader, is_supported_format
from monai.utils import ensure_tuple, look_up_option

from ..geometry import image_meta

__all__ = ["TRANSUNET_LABELS", "TransUNetArrayReader"]

TRANSUNET_LABELS = (0, 8, 4, 3, 2, 6, 11, 1, 7)
"""The challenge's label of each of TransUNet's 9 classes, which all that compare with it use."""

_KEYS = ("image", "label")
# the window in HU of which they made 0 to 1
_WINDOW = (-125.0, 275.0)
# their files are not cut off at 0 and 1, as their text says, but go from about -0.15 to 1.2
_IMAGE_RANGE = (-0.5, 1.5)


class TransUNetArrayReader(ImageReader):
    """
    Read TransUNet's arrays as if they were the scans of the challenge that they were made from.

    The files are ``.npz`` (one slice, ``(H, W)``) and ``.npy.h5`` (a volume, ``(D, H, W)``), each with an array
    ``image`` and an array ``label``. What comes out is a volume in Hounsfield units, or its labels in the challenge's
    coding of 13 organs (5 of which are background in these files), so that transforms for scans serve both.

    The files say nothing of spacing and orientation. Rows are taken to run from the patient's front to the back and
    columns from the right to the left, 1 mm apart: distances in mm are distances in voxels, and whoever means to use a
    network that was trained on arrays for scans has to look first whether both come out the same way up.

    In a config:
    ``"reader": ["VolumeReader", {"_target_": "TransUNetArrayReader", "key": "label"}]`` (by their full names), in a
    ``LoadImaged`` for the labels alone, beside one for the image. MONAI tries the last reader first.

    Source: J. Chen et al., "TransUNet", arXiv:2102.04306, and https://github.com/Beckschen/TransUNet (files).

    Args:
        key: which array of a file to read, ``image`` or ``label``. Defaults to ``image``.

    Raises:
        ValueError: when ``key`` is neither.
    """

    def __init__(self, key: str = "image") -> None:
        super().__init__()
        self.key = look_up_option(key, _KEYS)

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Whether the file, or all of several, have the extension of a format that this reader is for."""
        return is_supported_format(filename, ["npz", "h5"])

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> list[Path]:
        """
        Args:
            data: a volume's file, or the files of its slices in their order.
            kwargs: not used.

        Returns:
            the paths. The files are opened by :meth:`get_data`: ``LoadImage`` takes an error that is raised here to
            say that another reader should try.

        Raises:
            ValueError: when a file is of another format.
        """
        if not self.verify_suffix(data):
            raise ValueError(f"TransUNetArrayReader reads .npz and .h5 files, got {data}")
        return [Path(path) for path in ensure_tuple(data)]

    def get_data(self, img: Sequence[Path]) -> tuple[np.ndarray, dict[str, Any]]:
        """
        Args:
            img: what :meth:`read` returned.

        Returns:
            the volume ``(W, H, D)``, float32 for the image and uint8 for the labels, and its metadata.

        Raises:
            FileNotFoundError: when a file does not exist.
            ImportError: when a file is .h5 and h5py is not installed.
            ValueError: when a file lacks the array, its shape is none of the two or differs from that of the slices
                before it, an image is not scaled as theirs, or a label is not one of their 9.
        """
        parts = [self._decode(_read_array(path, self.key), path) for path in img]
        if len({part.shape[1:] for part in parts}) > 1:
            sizes = ", ".join(sorted({str(part.shape[1:]) for part in parts}))
            raise ValueError(
                f"the slices from {img[0]} to {img[-1].name} differ in size: {sizes}; are they of one case?"
            )
        array = np.concatenate(parts).transpose(2, 1, 0)
        return array, {**image_meta(array.shape, np.diag([-1.0, -1.0, 1.0, 1.0])), "slice_axis": 2}

    def _decode(self, array: np.ndarray, path: Path) -> np.ndarray:
        """Slices ``(D, H, W)`` in HU or in the challenge's labels."""
        if array.ndim not in (2, 3) or array.size == 0 or array.dtype.kind not in "biuf":
            raise ValueError(
                f"{path}: {self.key!r} is {array.dtype} of shape {array.shape}, expected numbers (H, W) or (D, H, W)"
            )
        slices = array[None] if array.ndim == 2 else array
        return _to_hounsfield(slices, path) if self.key == "image" else _to_challenge_labels(slices, path)


def _read_array(path: Path, key: str) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    open_file = np.load if path.suffix == ".npz" else _import_h5py().File
    try:
        with open_file(path) as arrays:
            names = sorted(arrays)
            array = np.asarray(arrays[key]) if key in names else None
    # what numpy, zipfile and h5py raise on a damaged file does not name it
    except (OSError, ValueError, BadZipFile) as error:
        raise ValueError(f"{path}: cannot be read ({path.stat().st_size} bytes): {error}") from error
    if array is None:
        raise ValueError(f"{path}: has no array {key!r}, only {names}; expected 'image' and 'label'")
    return array


def _import_h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ImportError("reading .h5 files needs h5py: pip install 'monai-sam2adapter[h5]'") from error
    return h5py


def _to_hounsfield(slices: np.ndarray, path: Path) -> np.ndarray:
    # what is not finite passes, for the transforms and the check behind to name it
    finite = slices[np.isfinite(slices)]
    if finite.size and (finite.min() < _IMAGE_RANGE[0] or finite.max() > _IMAGE_RANGE[1]):
        raise ValueError(
            f"{path}: the image has values from {finite.min():.4g} to {finite.max():.4g}, expected about 0 to 1 for "
            f"{_WINDOW[0]:.0f} to {_WINDOW[1]:.0f} HU, as TransUNet's files have; make it anew from the scan"
        )
    # whole numbers as in a scan, and not a hair below them, which a cast to integers would cut off
    return np.round(slices * (_WINDOW[1] - _WINDOW[0]) + _WINDOW[0]).astype(np.float32)


def _to_challenge_labels(slices: np.ndarray, path: Path) -> np.ndarray:
    values = np.unique(slices)
    wrong = values[~np.isin(values, range(len(TRANSUNET_LABELS)))]
    if len(wrong):
        raise ValueError(f"{path}: has the labels {', '.join(f'{v:.4g}' for v in wrong[:5])}; expected integers 0 to 8")
    return np.asarray(TRANSUNET_LABELS, dtype=np.uint8)[slices.astype(np.int64)]
