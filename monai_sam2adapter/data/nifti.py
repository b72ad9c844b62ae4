# SPDX-License-Identifier: Apache-2.0
"""Where a NIfTI file says that its voxels lie, and headers that say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

__all__ = ["is_nifti", "load_nifti", "nifti_header", "nifti_place"]

_MM = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
# of the spacing: more than the rounding of a header
_TOLERANCE = 0.01
# the cosine between two axes of voxels, or a difference of two affines in mm, that is rounding
_SHEAR, _ROUNDING = 1e-4, 1e-3
_PLACE = ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
_ROWS = ("srow_x", "srow_y", "srow_z")


def is_nifti(file: Any) -> bool:
    """Whether a file is NIfTI, by its name."""
    return str(file).lower().endswith((".nii", ".nii.gz"))


def load_nifti(file: Any) -> nib.Nifti1Image:
    """
    Read a header; voxels are read when they are asked for.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no NIfTI file.
    """
    try:
        image = nib.load(file)
    except nib.filebasedimages.ImageFileError as error:
        raise ValueError(f"{file} is no NIfTI file: {error}") from error
    if not isinstance(image, nib.Nifti1Image):  # of which NIfTI-2 is a kind
        raise ValueError(f"{file} is no NIfTI file, but a {type(image).__name__}")
    return image


def nifti_place(image: nib.Nifti1Image) -> tuple[np.ndarray, str]:
    """
    Read the place of a volume by one rule, as nibabel does: the sform where it has a code, else the qform, else that of
    Analyze (x to the patient's left, y to the front, the centre at 0); in the header's units.

    Unlike MONAI's reader it never changes an sform to fit ``pixdim``.

    Args:
        image: the file.

    Returns:
        voxel to world (RAS+, mm) matrix ``(4, 4)``, and what the header leaves open or contradicts itself in, to be put
        behind the file's name; empty when all is well.

    Raises:
        ValueError: when the header places the voxels nowhere: on a plane, or at numbers that are not finite.
    """
    header = image.header
    affine = np.array(image.affine, dtype=np.float64)
    pixdim = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))
    affine[:3] *= _MM[header.get_xyzt_units()[0]]
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
        raise ValueError(
            f"{image.get_filename()}: its header has the affine {affine[:3].tolist()}, expected three "
            "directions of voxels; repair the header"
        )
    codes = int(header["qform_code"]), int(header["sform_code"])
    if codes == (0, 0):
        return affine, (
            "does not say how the patient lies (qform_code and sform_code are 0): it is taken as Analyze files are, "
            "x to the left and y to the front"
        )
    if image.ndim < 3 or codes[1] == 0:
        return affine, ""
    sform, qform = image.get_sform(), image.get_qform()
    spacing = nib.affines.voxel_sizes(sform)
    if not np.allclose(spacing, pixdim, rtol=_TOLERANCE, atol=0):
        return affine, (
            f"contradicts itself: voxels of {_text(spacing)} by its sform, which is taken, and of {_text(pixdim)} by "
            "its pixdim, which other programs take; correct the header"
        )
    if codes[0] and nib.aff2axcodes(sform) != nib.aff2axcodes(qform):
        return affine, (
            f"contradicts itself: its axes run to {''.join(nib.aff2axcodes(sform))} by its sform, which is taken, and "
            f"to {''.join(nib.aff2axcodes(qform))} by its qform, which other programs take; correct the header"
        )
    return affine, ""


def nifti_header(affine: np.ndarray, source: Any = None) -> nib.Nifti1Header:
    """
    Make a header that places a volume, in every program.

    Args:
        affine: voxel to world (RAS+, mm) matrix ``(4, 4)``.
        source: file that the volume was made from. Where it is a NIfTI file of this place, both of its forms, their
            codes, ``pixdim`` and the units are taken, since programs differ in which they read. Defaults to None.

    Returns:
        the header; else with the affine as sform, code 1, in mm, and as qform, too, unless it has a shear, which a
        qform cannot hold.
    """
    header = nib.Nifti1Header()
    if source is not None and is_nifti(source) and Path(source).is_file():
        image = load_nifti(source)
        if np.allclose(nifti_place(image)[0], affine, rtol=0, atol=_ROUNDING):
            for name in (*_PLACE, *_ROWS):
                header[name] = image.header[name]
            header["pixdim"][:4] = image.header["pixdim"][:4]
            # of the time there is nothing in a segmentation
            header.set_xyzt_units(image.header.get_xyzt_units()[0])
            return header
    header.set_data_shape((1, 1, 1))  # without one there are no zooms to set
    header.set_sform(affine, code=1)
    directions = affine[:3, :3] / nib.affines.voxel_sizes(affine)
    if np.abs(directions.T @ directions - np.eye(3)).max() < _SHEAR:
        header.set_qform(affine, code=1)  # for programs that prefer it
    else:
        header["pixdim"][1:4] = nib.affines.voxel_sizes(affine)
    header.set_xyzt_units("mm")
    return header


def _text(spacing: np.ndarray) -> str:
    return " x ".join(f"{side:.4g}" for side in spacing)
