# SPDX-License-Identifier: Apache-2.0
"""Writing segmentations."""

from __future__ import annotations

import logging
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from monai.utils import look_up_option
from PIL import Image

from ..data.dicom.seg import require_highdicom, require_references, write_dicom_seg
from ..data.find_images import image_kind
from ..data.label_scheme import LabelScheme
from ..utils.files import atomic_path

__all__ = ["SaveSegmentationd"]

logger = logging.getLogger(__name__)

_EXTENSIONS = {"nii.gz": "nii.gz", "png": "png", "dicom_seg": "dcm"}


class SaveSegmentationd(Transform):
    """
    Write the segmentation of a case, and maps that belong to it, each as a whole or not at all.

    ``<case>_seg`` is written last: where it is, the case is done. MONAI's ``SaveImaged`` writes in place, so that a run
    that is killed leaves half a file; and it names results by the input file up to its first dot, so that
    ``scan.1.nii`` overwrites ``scan.2.nii``.

    - ``nii.gz``: volumes, in the geometry of the input, uint8. Maps are float32, channels along the fourth axis.
    - ``png``: pictures, as wide and high as the input. Pixels are the numbers of the classes, shown in their colors by
      a palette. Maps are TIFF, float32, one page a channel.
    - ``dicom_seg``: a DICOM Segmentation object that viewers place on the input, a DICOM series. Maps are ``nii.gz``.

    Args:
        output_dir: folder for the files; made when missing.
        scheme: names, colors and codes of the classes.
        output_format: "nii.gz", "png" or "dicom_seg". Defaults to "nii.gz".
        key: key of the segmentation, class numbers ``(1, *spatial)``. Defaults to "pred".
        map_keys: keys of maps to write, too, ``(K, *spatial)``, such as "probabilities" and "uncertainty". Defaults to
            none.
        case_key: key of the case's name. Defaults to "case".

    Raises:
        ValueError: when the format is none of these.
        ImportError: when "dicom_seg" is asked for and highdicom is not installed.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        scheme: LabelScheme,
        output_format: str = "nii.gz",
        key: str = "pred",
        map_keys: Sequence[str] = (),
        case_key: str = "case",
    ) -> None:
        self.output_dir = Path(output_dir)
        self.scheme = scheme
        self.output_format = look_up_option(output_format, tuple(_EXTENSIONS))
        self.key = key
        self.map_keys = tuple(map_keys)
        self.case_key = case_key
        if output_format == "dicom_seg":
            require_highdicom()

    def select_cases(self, cases: Sequence[Mapping[str, str]], skip_existing: bool = False) -> list[Mapping[str, str]]:
        """
        Choose what is to be done, before anything is.

        Args:
            cases: dictionaries with ``image`` and the case's name, as
                :py:func:`monai_sam2adapter.data.find_images` gives them; those with ``error`` are kept.
            skip_existing: whether to leave out cases whose segmentation and maps are there. Defaults to False.

        Returns:
            the cases that remain.

        Raises:
            ValueError: when a case cannot have a result in this format.
        """
        self._check_format([case["image"] for case in cases if "error" not in case])
        if not skip_existing:
            return list(cases)
        remaining = [case for case in cases if not self._is_done(case[self.case_key])]
        logger.info("%d of %d cases are done already", len(cases) - len(remaining), len(cases))
        return remaining

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: dictionary with the segmentation, ``MetaTensor``, the case's name and maps.

        Returns:
            the same items.

        Raises:
            ValueError: when there is no name or a map is missing, or the segmentation is no ``MetaTensor`` or does not
                fit the format.
        """
        if self.case_key not in data:
            raise ValueError(f"there is no {self.case_key!r} to name results by, only {sorted(map(str, data))}.")
        labels = data[self.key]
        if not isinstance(labels, MetaTensor):
            raise ValueError(f"{self.key!r} must be a MetaTensor to have a place, got a {type(labels).__name__}.")
        dimension = 2 if self.output_format == "png" else 3
        if labels.ndim != 1 + dimension:
            raise ValueError(
                f"{self.output_format} is for {dimension}D images, got a segmentation of shape {tuple(labels.shape)}."
            )
        case = str(data[self.case_key])
        missing = [key for key in self.map_keys if key not in data]
        if missing:
            raise ValueError(f"there is no {' and no '.join(missing)} to write, only {sorted(map(str, data))}.")
        for key in self.map_keys:
            self._write_map(self._map_target(case, key), data[key])
        with atomic_path(self._target(case)) as temporary:
            self._write_labels(temporary, labels)
        return dict(data)

    def _check_format(self, images: Sequence[str]) -> None:
        of_pictures = self.output_format == "png"
        others = [image for image in images if (image_kind(image) == "picture") != of_pictures]
        if others:
            raise ValueError(
                f"output_format {self.output_format} is for {'pictures' if of_pictures else 'volumes'}, but "
                f"{len(others)} of {len(images)} inputs are {'volumes' if of_pictures else 'pictures'}, such as "
                f"{others[0]}; give {'nii.gz' if of_pictures else 'png'} for them."
            )
        if self.output_format != "dicom_seg":
            return
        others = [image for image in images if image_kind(image) != "dicom"]
        if others:
            raise ValueError(
                f"output_format dicom_seg needs DICOM series, but {len(others)} of {len(images)} inputs are none, "
                f"such as {others[0]}; give nii.gz for them."
            )
        for image in images:
            require_references(image)

    def _is_done(self, case: str) -> bool:
        targets = [self._target(case), *(self._map_target(case, key) for key in self.map_keys)]
        return all(target.exists() for target in targets)

    def _target(self, case: str) -> Path:
        return self.output_dir / f"{case}_seg.{_EXTENSIONS[self.output_format]}"

    def _map_target(self, case: str, key: str) -> Path:
        return self.output_dir / f"{case}_{key}.{'tif' if self.output_format == 'png' else 'nii.gz'}"

    def _write_labels(self, path: Path, labels: MetaTensor) -> None:
        classes = labels[0].cpu().numpy().astype(np.uint8)
        if self.output_format == "nii.gz":
            _write_nifti(path, classes, labels.affine)
        elif self.output_format == "png":
            picture = Image.fromarray(classes.T.copy())  # (X, Y) -> rows and columns
            picture.putpalette([value for color in ((0, 0, 0), *self.scheme.colors) for value in color])
            picture.save(path, format="PNG")
        else:
            write_dicom_seg(path, classes, labels.meta["filename_or_obj"], self.scheme)

    def _write_map(self, path: Path, values: MetaTensor) -> None:
        channels = values.float().cpu().numpy()
        with atomic_path(path) as temporary:
            if self.output_format == "png":
                pages = [Image.fromarray(channel.T.copy()) for channel in channels]
                pages[0].save(temporary, format="TIFF", save_all=True, append_images=pages[1:])
            else:
                volume = channels[0] if len(channels) == 1 else np.moveaxis(channels, 0, -1)
                _write_nifti(temporary, volume, values.affine)


def _write_nifti(path: Path, volume: np.ndarray, affine: torch.Tensor) -> None:
    """By nibabel itself: MONAI's NibabelWriter makes an image out of a volume of one slice."""
    place = affine.cpu().numpy().astype(np.float64)
    image = nib.Nifti1Image(volume, place)
    image.set_sform(place, code=1)
    image.set_qform(place, code=1)  # for programs that prefer it; both are "scanner" coordinates
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
