# SPDX-License-Identifier: Apache-2.0
"""Writing segmentations."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from PIL import Image

from ..data.dicom import write_dicom_seg
from ..data.label_scheme import LabelScheme
from ..data.nifti import nifti_header
from ..data.results import ResultFiles
from ..utils import own_path

__all__ = ["SaveSegmentationd"]


class SaveSegmentationd(Transform):
    """
    Write the segmentation of a case, and maps that belong to it, each as a whole or not at all.

    ``<case>_seg`` is written last: where it is, the case is done. MONAI's ``SaveImaged`` writes in place, so that a run
    that is killed leaves half a file; and it names results by the input file up to its first dot, so that
    ``scan.1.nii`` overwrites ``scan.2.nii``.

    - ``nii.gz``: volumes, uint8, with the place of the input: of a NIfTI file all that its header says of it. Maps are
      float32, channels along the fourth axis.
    - ``png``: pictures, as wide and high as the input. Pixels are the numbers of the classes, shown in their colors by
      a palette. Maps are TIFF, float32, one page a channel.
    - ``dicom_seg``: a DICOM Segmentation object that viewers place on the input, a DICOM series. Maps are ``nii.gz``.

    Args:
        output_dir: folder for the files, see :py:class:`monai_sam2adapter.data.ResultFiles`; made when missing.
        scheme: names, colors and codes of the classes.
        output_format: "nii.gz", "png" or "dicom_seg". Defaults to "nii.gz".
        key: key of the segmentation, class numbers ``(1, *spatial)``. Defaults to "pred".
        save_probabilities: whether to write the map ``"probabilities"``, ``(K, *spatial)``, too. Defaults to False.
        save_uncertainty: whether to write the map ``"uncertainty"``, ``(1, *spatial)``, too. Defaults to False.
        case_key: key of the case's name. Defaults to "case".
        overwrite: whether to replace files that no run has written, or that were changed since. Defaults to False.

    Raises:
        ValueError: when the format is none of these, or a flag is neither True nor False.
        ImportError: when "dicom_seg" is asked for and highdicom is not installed.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        scheme: LabelScheme,
        output_format: str = "nii.gz",
        key: str = "pred",
        save_probabilities: bool = False,
        save_uncertainty: bool = False,
        case_key: str = "case",
        overwrite: bool = False,
    ) -> None:
        self.files = ResultFiles(output_dir, output_format, save_probabilities, save_uncertainty, overwrite)
        self.scheme = scheme
        self.key = key
        self.case_key = case_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: dictionary with the segmentation, ``MetaTensor``, the case's name and maps.

        Returns:
            the same items.

        Raises:
            FileExistsError: when there is a file that no run has written, unless ``overwrite``.
            ValueError: when there is no name or a map is missing, or the segmentation is no ``MetaTensor`` or does not
                fit the format.
        """
        if self.case_key not in data:
            raise ValueError(f"there is no {self.case_key!r} to name results by, only {sorted(map(str, data))}.")
        labels = data[self.key]
        if not isinstance(labels, MetaTensor):
            raise ValueError(f"{self.key!r} must be a MetaTensor to have a place, got a {type(labels).__name__}.")
        output_format = self.files.output_format
        dimension = 2 if output_format == "png" else 3
        if labels.ndim != 1 + dimension:
            raise ValueError(
                f"{output_format} is for {dimension}D images, got a segmentation of shape {tuple(labels.shape)}."
            )
        maps = self.files.paths(str(data[self.case_key]))
        target = maps.pop("seg")
        missing = [name for name in maps if name not in data]
        if missing:
            raise ValueError(f"there is no {' and no '.join(missing)} to write, only {sorted(map(str, data))}.")
        for name, path in maps.items():
            with own_path(path, self.files.overwrite) as temporary:
                _write_map(temporary, data[name], as_pages=output_format == "png", source=_source(labels))
        with own_path(target, self.files.overwrite) as temporary:
            self._write_labels(temporary, labels)
        return dict(data)

    def _write_labels(self, path: Path, labels: MetaTensor) -> None:
        classes = labels[0].cpu().numpy().astype(np.uint8)
        if self.files.output_format == "nii.gz":
            _write_nifti(path, classes, labels.affine, _source(labels))
        elif self.files.output_format == "png":
            picture = Image.fromarray(classes.T.copy())  # (X, Y) -> rows and columns
            picture.putpalette([value for color in ((0, 0, 0), *self.scheme.colors) for value in color])
            picture.save(path, format="PNG")
        else:
            source = labels.meta.get("dicom_series") or labels.meta["filename_or_obj"]
            write_dicom_seg(path, classes, source, self.scheme)


def _source(labels: MetaTensor) -> Any:
    return labels.meta.get("filename_or_obj")


def _write_map(path: Path, values: MetaTensor, as_pages: bool, source: Any) -> None:
    channels = values.float().cpu().numpy()
    if as_pages:
        pages = [Image.fromarray(channel.T.copy()) for channel in channels]
        pages[0].save(path, format="TIFF", save_all=True, append_images=pages[1:])
    else:
        volume = channels[0] if len(channels) == 1 else np.moveaxis(channels, 0, -1)
        _write_nifti(path, volume, values.affine, source)


def _write_nifti(path: Path, volume: np.ndarray, affine: torch.Tensor, source: Any) -> None:
    """By nibabel itself: MONAI's NibabelWriter makes an image out of a volume of one slice, and a header of its own."""
    header = nifti_header(affine.cpu().numpy().astype(np.float64), source)
    header.set_data_dtype(volume.dtype)
    nib.save(nib.Nifti1Image(volume, None, header), path)
