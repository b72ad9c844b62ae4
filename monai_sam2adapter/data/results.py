# SPDX-License-Identifier: Apache-2.0
"""The files that inference writes."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import SimpleITK as sitk
from monai.utils import look_up_option

from ..utils import escaping_logger, is_own, require_flags, require_own, require_writable
from .dicom import DicomSeries, require_highdicom
from .dicom.seg import require_references
from .folder_search import PICTURE_FOLDER
from .nifti import is_nifti, load_nifti
from .readers import SimpleITKReader, VolumeReader, open_picture

__all__ = ["ResultFiles", "file_name"]

logger = escaping_logger(__name__)

# of the segmentation and of maps
_EXTENSIONS = {"nii.gz": ("nii.gz", "nii.gz"), "png": ("png", "tif"), "dicom_seg": ("dcm", "nii.gz")}


@dataclass(frozen=True)
class ResultFiles:
    """
    Names of the files of a case, for who writes them and for who looks whether they are there.

    Args:
        output_dir: their folder.
        output_format: "nii.gz" or "dicom_seg" for volumes, "png" for pictures. Defaults to "nii.gz".
        save_probabilities: whether there is a map of probabilities. Defaults to False.
        save_uncertainty: whether there is a map of uncertainty. Defaults to False.
        overwrite: whether results may replace files that no run has written, or that were changed since. Defaults to
            False.
        mask_names: names of classes that overlap and are no regions, see ``LabelScheme.mask_names``: of a picture each
            gets a file of its own, ``CASE_CLASS_seg.png``. Defaults to none.

    Raises:
        ValueError: when the format is none of these, a flag is neither True nor False, or two classes would have files
            of one name.
        ImportError: when "dicom_seg" is asked for and highdicom is not installed.
    """

    output_dir: str | os.PathLike[str]
    output_format: str = "nii.gz"
    save_probabilities: bool = False
    save_uncertainty: bool = False
    overwrite: bool = False
    mask_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        look_up_option(self.output_format, tuple(_EXTENSIONS))
        require_flags(
            save_probabilities=self.save_probabilities,
            save_uncertainty=self.save_uncertainty,
            overwrite=self.overwrite,
        )
        if self.output_format == "dicom_seg":
            require_highdicom()
        names = [file_name(name).casefold() for name in self.mask_names]
        if len(set(names)) < len(names):
            raise ValueError(
                f"the classes {', '.join(self.mask_names)} have files of one name; give them names that differ in "
                "letters or digits (--class_names)"
            )

    def paths(self, case: str, in_parts: bool = False) -> dict[str, Path]:
        """
        The files of a case: "probabilities", "uncertainty" (where wanted) and "seg", in the order of writing; of a
        picture with masks of several classes "seg 0", "seg 1", ...; of a picture that is segmented ``in_parts`` all are
        TIFF.
        """
        extension, map_extension = _EXTENSIONS[self.output_format]
        extension = map_extension if in_parts else extension
        maps = {"probabilities": self.save_probabilities, "uncertainty": self.save_uncertainty}
        endings = {name: f"{name}.{map_extension}" for name, wanted in maps.items() if wanted}
        if self.mask_names and self.output_format == "png":
            masks = {f"seg {k}": f"{file_name(name)}_seg.{extension}" for k, name in enumerate(self.mask_names)}
        else:
            masks = {"seg": f"seg.{extension}"}
        return {name: Path(self.output_dir) / f"{case}_{ending}" for name, ending in {**endings, **masks}.items()}

    def remaining(self, items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """
        Those of the cases that are not done: a file is missing, cannot be read, or is not of the image's size. A file
        of the latter kinds that this package did not write is put aside as ``<name>.damaged`` (``.damaged2``, ... where
        that is taken).

        Args:
            items: the cases, as :py:func:`monai_sam2adapter.data.find_images` gives them.

        Returns:
            the others are done.
        """
        remaining = []
        for item in items:
            shape = None if "error" in item else _shape(item["image"])
            paths = self.paths(item["case"], "parts" in item)
            there = [path for path in paths.values() if path.exists()]
            useless = [path for path in there if not _is_whole(path, shape)]
            for path in useless:
                logger.warning("%s is damaged or not of the size of its image: it is written anew", path)
                if not is_own(path):
                    path.rename(_free_name(path))
            if useless or len(there) < len(paths):
                remaining.append(item)
        return remaining

    def require_places(self, items: Sequence[Mapping[str, Any]], images: Sequence[str | list[str]]) -> None:
        """
        Find out before the work that the results of all cases can be written, and replace nothing but earlier results.

        Args:
            items: the cases to be done.
            images: all images that were given.

        Raises:
            FileExistsError: when there are other files, unless ``overwrite``.
            OSError: when the folder cannot be written to.
            ValueError: when a result would replace an image, whatever ``overwrite`` is, or that of another case.
        """
        paths = [path for item in items for path in self.paths(item["case"], "parts" in item).values()]
        twice = [path for path, number in Counter(paths).items() if number > 1]
        if twice:
            raise ValueError(f"two results would be called {twice[0]}; name the cases otherwise (a list with 'case')")
        # a picture that is none of ours is not replaced either, but no reason not to segment
        pictures = [Path(self.output_dir) / PICTURE_FOLDER / f"{item['case']}.png" for item in items]
        inputs = {_identity(file) for image in images for file in _files(image)}
        lost = [path for path in (*paths, *pictures) if path.exists() and _identity(path) in inputs]
        if lost:
            raise ValueError(
                f"the result {lost[0]} would replace that input; write elsewhere (--output_dir), or leave it out of "
                "the inputs."
            )
        if not self.overwrite:
            require_own(paths)
        require_writable(self.output_dir)

    def require_inputs(self, images: Sequence[str | list[str]], kind: str) -> None:
        """
        Check that images can have results of this format, before anything is done. Whether a DICOM series is damaged is
        left for reading it.

        Args:
            images: the images, as :py:func:`monai_sam2adapter.data.find_images` gives them.
            kind: "volume" or "picture", what they are.

        Raises:
            ValueError: when the format is for the other kind, or for DICOM series, and an image is none or lacks what a
                segmentation must refer to.
        """
        if (self.output_format == "png") != (kind == "picture"):
            good, usual = ("volume", "png") if kind == "picture" else ("picture", "nii.gz")
            raise ValueError(
                f"output_format {self.output_format} is for {good}s, but the inputs are {kind}s; give {usual} for them."
            )
        if self.output_format != "dicom_seg":
            return
        others = [image for image in images if not isinstance(image, DicomSeries)]
        if others:
            raise ValueError(
                f"output_format dicom_seg needs DICOM series, but {len(others)} of {len(images)} inputs are none, "
                f"such as {others[0]}; give nii.gz for them."
            )
        for series in images:
            if isinstance(series, DicomSeries):
                require_references(series)


def file_name(name: str) -> str:
    """A name as a part of that of a file, where what follows a dot would be taken for an extension."""
    return re.sub(r"[^\w-]+", "_", name)


def _files(image: str | list[str]) -> Sequence[str | os.PathLike[str]]:
    if isinstance(image, DicomSeries):
        return image.files
    return image if isinstance(image, list) else [image.partition("#page=")[0]]


def _identity(file: str | os.PathLike[str]) -> tuple[int, int]:
    """The same for all names of a file: other folders, links, other cases of letters."""
    try:
        status = os.stat(file)
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino


def _free_name(path: Path) -> Path:
    """To put a file aside without replacing what was put aside before."""
    numbers = itertools.chain([""], itertools.count(2))
    names = (path.with_name(f"{path.name}.damaged{number}") for number in numbers)
    return next(name for name in names if not os.path.lexists(name))


def _is_whole(path: Path, shape: tuple[int, ...] | None) -> bool:
    """Whether a result can be read and is as large as its image, where the size is known."""
    try:
        # what nobody has changed since it was written is whole, and need not be read
        found = _shape(str(path)) if is_own(path) else _read_shape(path)
    except Exception:  # whatever a reader stumbles over
        return False
    return shape is None or found is None or found == shape


def _read_shape(path: Path) -> tuple[int, ...] | None:
    """Read a result to its end."""
    if path.suffix == ".dcm":
        pydicom.dcmread(path).pixel_array  # noqa: B018
    elif is_nifti(path):
        VolumeReader(channels=None).get_data((path,))
    else:
        with open_picture(path) as picture:
            for page in range(getattr(picture, "n_frames", 1)):
                picture.seek(page)
                picture.load()
    return _shape(str(path))


def _shape(image: str | list[str]) -> tuple[int, ...] | None:
    """Size by the header, of pictures in no order since they may lie on their side; None when it does not tell."""
    file = str(_files(image)[0])
    try:
        if isinstance(image, DicomSeries):
            return int(image.tag("Columns")), int(image.tag("Rows")), len(image.geometry().order)
        if is_nifti(file):
            return tuple(load_nifti(file).shape[:3])
        if SimpleITKReader().verify_suffix(file):
            header = sitk.ImageFileReader()
            header.SetFileName(file)
            header.ReadImageInformation()
            return tuple(header.GetSize()[:3])
        if file.lower().endswith(".dcm"):
            return None
        with open_picture(file) as picture:
            return tuple(sorted(picture.size))
    except Exception as error:  # reading it tells
        logger.debug("%s: %s", file, error)
        return None
