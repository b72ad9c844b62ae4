# SPDX-License-Identifier: Apache-2.0
"""The files that inference writes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from monai.utils import look_up_option

from ..utils import require_flags
from .dicom import DicomSeries, require_highdicom
from .dicom.seg import require_references

__all__ = ["ResultFiles"]

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

    Raises:
        ValueError: when the format is none of these, or a flag is neither True nor False.
        ImportError: when "dicom_seg" is asked for and highdicom is not installed.
    """

    output_dir: str | os.PathLike[str]
    output_format: str = "nii.gz"
    save_probabilities: bool = False
    save_uncertainty: bool = False

    def __post_init__(self) -> None:
        look_up_option(self.output_format, tuple(_EXTENSIONS))
        require_flags(save_probabilities=self.save_probabilities, save_uncertainty=self.save_uncertainty)
        if self.output_format == "dicom_seg":
            require_highdicom()

    def paths(self, case: str) -> dict[str, Path]:
        """The files of a case: "probabilities", "uncertainty" (where wanted) and "seg", in the order of writing."""
        extension, map_extension = _EXTENSIONS[self.output_format]
        maps = {"probabilities": self.save_probabilities, "uncertainty": self.save_uncertainty}
        endings = {**{name: map_extension for name, wanted in maps.items() if wanted}, "seg": extension}
        return {name: Path(self.output_dir) / f"{case}_{name}.{ending}" for name, ending in endings.items()}

    def are_there(self, case: str) -> bool:
        """Whether a case is done, all its files written."""
        return all(path.exists() for path in self.paths(case).values())

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
