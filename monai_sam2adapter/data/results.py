# SPDX-License-Identifier: Apache-2.0
"""The files that inference writes."""

from __future__ import annotations

import os
from pathlib import Path

from monai.utils import look_up_option

__all__ = ["result_paths"]

# of the segmentation and of maps
_EXTENSIONS = {"nii.gz": ("nii.gz", "nii.gz"), "png": ("png", "tif"), "dicom_seg": ("dcm", "nii.gz")}


def result_paths(
    output_dir: str | os.PathLike[str],
    case: str,
    output_format: str = "nii.gz",
    save_probabilities: bool = False,
    save_uncertainty: bool = False,
) -> dict[str, Path]:
    """
    Name the files of a case, which is done when all are there.

    Args:
        output_dir: their folder.
        case: the case's name.
        output_format: "nii.gz", "png" or "dicom_seg". Defaults to "nii.gz".
        save_probabilities: whether there is a map of probabilities. Defaults to False.
        save_uncertainty: whether there is a map of uncertainty. Defaults to False.

    Returns:
        the paths of "probabilities", "uncertainty" (where they are wanted) and "seg", in the order of writing.

    Raises:
        ValueError: when the format is none of these.
    """
    extension, map_extension = _EXTENSIONS[look_up_option(output_format, tuple(_EXTENSIONS))]
    maps = {"probabilities": save_probabilities, "uncertainty": save_uncertainty}
    endings = {**{name: map_extension for name, wanted in maps.items() if wanted}, "seg": extension}
    return {name: Path(output_dir) / f"{case}_{name}.{ending}" for name, ending in endings.items()}
