# SPDX-License-Identifier: Apache-2.0
"""Writing segmentations."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from PIL import Image

from ..data.class_masks import region_map
from ..data.dicom import write_dicom_seg
from ..data.label_scheme import LabelScheme
from ..data.large_results import write_large_labels
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

    Where classes overlap, NIfTI files are 4D with a mask a channel, and a comment in the header says which is which;
    pictures are one file a class, ``<case>_<class>_seg.png``, of 0 and 255; DICOM segments overlap. Regions are written
    back to one label map by ``scheme.region_order``, as nnU-Net does, but in DICOM.

    Class numbers are kept in 8 bits, of more than 255 classes in 16.

    - ``nii.gz``: volumes, with the place of the input: of a NIfTI file all that its header says of it. Maps are
      float32, channels along the fourth axis.
    - ``png``: pictures, as wide and high as the input. Pixels are the numbers of the classes, shown in their colors by
      a palette, which pictures of 16 bits have not. Maps are TIFF, float32, one page a channel. Of pictures that are
      segmented in parts the segmentation is a TIFF, too, see ``save_in_parts``.
    - ``dicom_seg``: a DICOM Segmentation object that viewers place on the input, a DICOM series. Maps are ``nii.gz``.

    Args:
        output_dir: folder for the files, see :py:class:`monai_sam2adapter.data.ResultFiles`; made when missing.
        scheme: names, colors and codes of the classes, and whether they overlap.
        output_format: "nii.gz", "png" or "dicom_seg". Defaults to "nii.gz".
        key: key of the segmentation, class numbers ``(1, *spatial)``, or a mask a channel where classes overlap.
            Defaults to "pred".
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
        maps = save_probabilities, save_uncertainty
        self.files = ResultFiles(output_dir, output_format, *maps, overwrite, scheme.mask_names)
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
        if self.scheme.overlapping and len(labels) != len(self.scheme.names):
            raise ValueError(f"got {len(labels)} masks, expected one for each of {', '.join(self.scheme.names)}.")
        maps = self.files.paths(str(data[self.case_key]))
        targets = [maps.pop(name) for name in list(maps) if name.startswith("seg")]
        missing = [name for name in maps if name not in data]
        if missing:
            raise ValueError(f"there is no {' and no '.join(missing)} to write, only {sorted(map(str, data))}.")
        for name, path in maps.items():
            with own_path(path, self.files.overwrite) as temporary:
                _write_map(temporary, data[name], as_pages=output_format == "png", source=_source(labels))
        for index, target in enumerate(targets):
            with own_path(target, self.files.overwrite) as temporary:
                self._write_labels(temporary, labels, index)
        return dict(data)

    def save_in_parts(self, case: str, size: tuple[int, int], parts: Iterator[Mapping[str, torch.Tensor]]) -> None:
        """
        Write the results of a picture too large for the memory while they are found: TIFF files.

        Args:
            case: its name.
            size: width and height of the picture, ``(W, H)``.
            parts: ``"pred"`` and the maps of bands, ``(1, K, W, rows)`` each, in their order.

        Raises:
            FileExistsError: as of a call.
        """
        paths = self.files.paths(case, in_parts=True)
        with ExitStack() as stack:
            # the first that is opened is the last to get its name
            places = {
                name: stack.enter_context(own_path(path, self.files.overwrite))
                for name, path in reversed(paths.items())
            }
            write_large_labels(places.pop("seg"), size, parts, self.scheme.colors, maps=places)

    def _write_labels(self, path: Path, labels: MetaTensor, index: int) -> None:
        """Write the whole segmentation, or of masks in pictures one of them."""
        classes = self._arrange(labels)
        if self.files.output_format == "nii.gz":
            _write_nifti(path, classes, labels.affine, _source(labels), self.scheme.mask_names)
        elif self.files.output_format == "dicom_seg":
            source = labels.meta.get("dicom_series") or labels.meta["filename_or_obj"]
            write_dicom_seg(path, classes, source, self.scheme)
        elif self.scheme.mask_names:
            Image.fromarray(255 * classes[..., index].T).save(path, format="PNG")
        else:
            picture = Image.fromarray(classes.T.copy())  # (X, Y) -> rows and columns
            if classes.dtype == np.uint8:
                picture.putpalette([value for color in self._palette() for value in color])
            picture.save(path, format="PNG")

    def _arrange(self, labels: MetaTensor) -> np.ndarray:
        """Class numbers, ``(*spatial)``, or masks, ``(*spatial, K)``."""
        channels = labels.cpu().numpy()
        if not self.scheme.overlapping:
            return channels[0].astype(np.uint8 if len(self.scheme.names) < 256 else np.uint16)
        channels = channels.astype(np.uint8)
        if self.scheme.region_order and self.files.output_format != "dicom_seg":
            return region_map(channels, self.scheme.region_order)
        return np.moveaxis(channels, 0, -1)

    def _palette(self) -> list[tuple[int, int, int]]:
        """Colors of the numbers in a picture: of regions that which is written last by a number."""
        numbers = self.scheme.region_order or range(1, len(self.scheme.names) + 1)
        colors = dict(zip(numbers, self.scheme.colors, strict=True))
        return [colors.get(number, (0, 0, 0)) for number in range(max(colors, default=0) + 1)]


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


def _write_nifti(
    path: Path, volume: np.ndarray, affine: torch.Tensor, source: Any, channel_names: Sequence[str] = ()
) -> None:
    """By nibabel itself: MONAI's NibabelWriter makes an image out of a volume of one slice, and a header of its own."""
    header = nifti_header(affine.cpu().numpy().astype(np.float64), source)
    header.set_data_dtype(volume.dtype)
    image = nib.Nifti1Image(volume, None, header)
    if channel_names:
        text = json.dumps({"channels": list(channel_names)}, ensure_ascii=False)
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", text.encode("utf-8")))
    nib.save(image, path)
