# SPDX-License-Identifier: Apache-2.0
"""Where a NIfTI file says that its voxels lie, and headers that say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

__all__ = ["is_nifti", "load_nifti", "nifti_header", "nifti_place"]

# by the lowest three bits of xyzt_units: unknown, meter, millimeter, micrometer
_MM = (1.0, 1000.0, 1.0, 0.001)
_LAST_CODE = 5  # of qform_code and sform_code
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

    nibabel reads the header for voxels where they begin in it, believes one of two sizes of a voxel, and mends
    the rest in memory with a line in the log that names no file.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no NIfTI file, or its header has no valid begin or type of the voxels, code or unit.
    """
    try:
        image = nib.load(file)
    except nib.filebasedimages.ImageFileError as error:
        raise ValueError(f"{file} is no NIfTI file: {error}") from error
    if not isinstance(image, nib.Nifti1Image):  # of which NIfTI-2 is a kind
        raise ValueError(f"{file} is no NIfTI file, but a {type(image).__name__}")
    problem = _header_problem(stored_header(image))
    if problem:
        raise ValueError(f"{file} has a header with {problem}; correct it, or get the file again")
    return image


def stored_header(image: nib.Nifti1Image) -> nib.Nifti1Header:
    """The header as it is in the file of an image; nibabel has mended the image's own."""
    with nib.openers.ImageOpener(str(image.get_filename())) as content:
        return type(image.header).from_fileobj(content, check=False)


def _header_problem(header: nib.Nifti1Header) -> str:
    offset, first = float(header["vox_offset"]), header.single_vox_offset
    if not offset >= first or offset != int(offset):  # written so that NaN is a problem too
        return f"vox_offset {offset:g}, inside of the header; expected at least {first}"
    if min(header.get_data_shape(), default=0) < 0:
        return f"dim {header['dim'].tolist()}, expected no number below 0"
    bits, stored = 8 * header.get_data_dtype().itemsize, int(header["bitpix"])
    if stored not in (0, bits):  # 0 where a program has not filled it in
        return f"bitpix {stored}, but {header.get_value_label('datatype')} voxels (datatype) of {bits} bits"
    for name in ("qform_code", "sform_code"):
        if not 0 <= int(header[name]) <= _LAST_CODE:
            return f"{name} {int(header[name])}, expected 0 to {_LAST_CODE}"
    if _unit(header) >= len(_MM):
        return (
            f"xyzt_units {int(header['xyzt_units'])}, whose unit of length, {_unit(header)}, is none (1 m, 2 mm, 3 um)"
        )
    return ""


def _unit(header: nib.Nifti1Header) -> int:
    """Code of the unit of length; the other bits are of the time."""
    return int(header["xyzt_units"]) % 8


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
    affine[:3] *= _MM[_unit(header)]
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
        raise ValueError(
            f"{image.get_filename()}: its header has the affine {affine[:3].tolist()}, expected three "
            "directions of voxels; repair the header"
        )
    codes = int(header["qform_code"]), int(header["sform_code"])
    distances = "" if codes[1] else _distance_problem(image)
    if codes == (0, 0):
        return affine, distances + ("; it " if distances else "") + (
            "does not say how the patient lies (qform_code and sform_code are 0): it is taken as Analyze files are, "
            "x to the left and y to the front"
        )
    if image.ndim < 3 or codes[1] == 0:
        return affine, distances
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


def _distance_problem(image: nib.Nifti1Image) -> str:
    """Of distances that nibabel has made up, where there is no sform that has them."""
    if image.get_filename() is None:
        return ""
    pixdim = stored_header(image)["pixdim"][1 : min(image.ndim, 3) + 1]
    if (pixdim == 0).any():
        return f"says nothing of the distance of its voxels along some axis (pixdim {_text(pixdim)}); taken: 1 mm"
    if (pixdim < 0).any():
        return f"has negative distances of its voxels (pixdim {_text(pixdim)}), which are taken without the sign"
    return ""


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
            header["xyzt_units"] = _unit(image.header)
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
