# SPDX-License-Identifier: Apache-2.0
"""Which axis of a volume its slices lie along, and how to turn all volumes alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from monai.utils import look_up_option

from .geometry import voxel_spacing

__all__ = ["SLICES_BY", "VolumeAxes", "choose_orientation", "require_axcodes", "unlike_the_rest"]

SLICES_BY = ("orientation", "both", "spacing")
"""What tells the axis of the slices, see :py:class:`VolumeAxes`."""

# how much larger than the others a spacing is that tells slices: by half where it is taken against what a header says
_CLEARLY, _AT_ALL = 1.5, 1.05
# of the volumes with thick slices, how many must agree on their direction for it to be that of the data
_MOST = 0.9
_LPS = "LPS"  # of DICOM
_NOT_TOLD = (
    "does not say along which axis its slices lie: there is no orientation in its header, and no spacing is the "
    "largest; taken: the last axis. If that is wrong, repair the header"
)
_BY_DEFAULT = (
    "and the axes of the patient in the order of the array, as programs write that know of no orientation; it is cut "
    "into these slices. If that is wrong, repair the header"
)
_TILT = nib.affines.from_matvec(nib.eulerangles.euler2mat(1e-4, 2e-4, 3e-4))


@dataclass(frozen=True)
class VolumeAxes:
    """
    What a volume says of its axes.

    Args:
        affine: voxel to world (RAS+, mm) matrix ``(4, 4)``.
        is_stated: whether the affine says how the patient lies; not that of a NIfTI file without codes or of an NRRD or
            MetaImage file without directions, nor one that no program has set (axes and origin of the world, voxels of
            1 mm). Defaults to True.
        slice_axis: number of the axis along which its slices were taken or stored, where that is known, as for DICOM.
            Defaults to None.
    """

    affine: np.ndarray
    is_stated: bool = True
    slice_axis: int | None = None

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> VolumeAxes:
        """Those of metadata from ``VolumeReader`` or another reader of MONAI, with a key ``affine``."""
        affine = np.asarray(meta["affine"], dtype=np.float64)
        codes = [meta[name] for name in ("qform_code", "sform_code") if name in meta]
        is_set = not np.array_equal(np.abs(affine), np.eye(4))
        is_stated = is_set and (not codes or any(codes)) and bool(meta.get("is_stated", True))
        return cls(affine, is_stated, meta.get("slice_axis"))

    @property
    def codes(self) -> str:
        """The direction of the patient that each axis is nearest to, such as ``LPS``."""
        return "".join(nib.orientations.ornt2axcodes(self._ornt()))

    def thick_axis(self) -> int | None:
        """
        The axis whose spacing is clearly the largest: by half, or by 5 % where nothing else tells the slices; None
        where there is none.
        """
        spacing = np.asarray(voxel_spacing(self.affine))
        others, largest = np.sort(spacing)[-2:]
        return int(spacing.argmax()) if largest > others * (_CLEARLY if self.is_stated else _AT_ALL) else None

    def orient(self, axcodes: str, slices_by: str = "both") -> tuple[np.ndarray, str]:
        """
        Find how to turn a volume so that its slices lie along the last axis, as those of the training data do.

        The axis of the slices is, by ``slices_by``,

        - ``orientation``: the one nearest to the last code of ``axcodes``, where the affine says how the patient lies;
        - ``both``: the same, unless the axes of the patient come in the order of the array, as programs write that know
          of no orientation, and another spacing is clearly the largest: then that;
        - ``spacing``: the known axis of the slices, else the one with the clearly largest spacing, else as above. For
          slices that are oblique and do not lie alike in all patients, as those of the heart.

        Where the affine says nothing, it is the one with the largest spacing, else the known one, else the last.

        The other two axes come in the order and direction that ``axcodes`` gives them. Where the affine says nothing,
        or is not believed, they stay in their order, with the directions that their places in the array had.

        Args:
            axcodes: axis codes of the training data, slices last, such as ``LPS``.
            slices_by: ``orientation``, ``both`` or ``spacing``. Defaults to "both".

        Returns:
            nibabel's orientation transform ``(3, 2)``, and what a user has to know, to be put behind the file's name;
            empty when all is well.
        """
        require_axcodes(axcodes)
        look_up_option(slices_by, SLICES_BY)
        axis, is_believed, note = self._slice_axis(axcodes, slices_by)
        ornt = self._ornt()
        if not is_believed:
            order = [*(other for other in range(3) if other != axis), axis]
            moved = np.empty((3, 2))
            moved[order] = ornt  # the axes as if the array had come with its slices last
            if nib.orientations.axcodes2ornt(axcodes)[2, 0] != ornt[2, 0]:
                axcodes = self.codes  # of another plane nothing is known but that axis
            return nib.orientations.ornt_transform(moved, nib.orientations.axcodes2ornt(axcodes)), note
        along = int(ornt[axis, 0])
        codes = sorted(axcodes, key=lambda code: _world_axis(code) == along)  # that axis last, the others as they are
        return nib.orientations.ornt_transform(ornt, nib.orientations.axcodes2ornt(codes)), note

    def _slice_axis(self, axcodes: str, slices_by: str) -> tuple[int, bool, str]:
        """Number of the axis, whether the directions of the affine hold for it, and what to tell."""
        thick = self.thick_axis()
        if not self.is_stated:
            found = [axis for axis in (thick, self.slice_axis) if axis is not None]
            return (found[0], False, "") if found else (2, False, _NOT_TOLD)
        stated = int(np.flatnonzero(self._ornt()[:, 0] == _world_axis(axcodes[-1]))[0])
        # whether the axes may be those of a program that knows of no orientation
        by_default = self._is_diagonal() and self.slice_axis is None
        if slices_by == "spacing":
            axis = next(axis for axis in (self.slice_axis, thick, stated) if axis is not None)
            return axis, axis == stated or not by_default, ""
        if slices_by == "orientation" or thick in (None, stated):
            return stated, True, ""
        has = f"has thick slices along its axis {thick} ({_text(voxel_spacing(self.affine))} mm)"
        if by_default and thick is not None:
            return thick, False, f"{has} {_BY_DEFAULT}"
        return stated, True, f"{has}; it is cut along its axis {stated}, as the training data were, into coarse images"

    def _ornt(self) -> np.ndarray:
        """nibabel's orientation; of axes halfway between two the same, in whichever order they are stored."""
        return nib.io_orientation(_TILT @ self.affine)

    def _is_diagonal(self) -> bool:
        directions = np.abs(self.affine[:3, :3]) / voxel_spacing(self.affine)
        return np.allclose(directions, np.eye(3), rtol=0, atol=1e-4)


def choose_orientation(volumes: Sequence[VolumeAxes]) -> tuple[str, str]:
    """
    Choose from training data in which orientation volumes are cut into slices.

    Args:
        volumes: axes of the training volumes, at least one.

    Returns:
        the axis codes LPS, with those of the slices last, and what tells the axis of the slices: ``both`` where nine in
        ten volumes with thick slices have them in one direction, ``spacing`` where less do, and ``orientation`` where
        there are none. Slices are thick along an axis whose spacing is clearly the largest. Where none are, they are
        those of the largest spacing in the median, or, if all are within 5 %, of the last axis of most volumes.
    """
    stated = [volume for volume in volumes if volume.is_stated]
    if not stated:
        return _LPS, "both"
    thick = [_world_axis(volume.codes[axis]) for volume in stated if (axis := volume.thick_axis()) is not None]
    if thick:
        along, count = Counter(thick).most_common(1)[0]
        slices_by = "both" if count >= _MOST * len(thick) else "spacing"
    else:
        spacing = np.median([_world_spacing(volume) for volume in stated], axis=0)
        last = Counter(_world_axis(volume.codes[-1]) for volume in stated).most_common(1)[0][0]
        along = int(spacing.argmax()) if spacing.max() > _AT_ALL * spacing[last] else last
        slices_by = "orientation"
    return "".join(sorted(_LPS, key=lambda code: _world_axis(code) == along)), slices_by


def unlike_the_rest(volumes: Mapping[str, VolumeAxes]) -> dict[str, str]:
    """
    Find the volumes of a data set that lie otherwise than most.

    Args:
        volumes: their axes by their files.

    Returns:
        for each that has other axis codes or says nothing of them, has the thick slices along another axis, or a
        spacing of less than half or more than twice the median: what it has, and what most have.
    """
    codes = Counter(_told_codes(volume) for volume in volumes.values())
    thick = Counter(_told_thick(volume) for volume in volumes.values())
    (most_codes, _), (most_thick, _) = codes.most_common(1)[0], thick.most_common(1)[0]
    spacings = np.array([_world_spacing(volume) for volume in volumes.values()])
    median = np.median(spacings, axis=0)
    others = {}
    for (file, volume), spacing in zip(volumes.items(), spacings, strict=True):
        texts = []
        if _told_codes(volume) != most_codes:
            texts.append(f"axes {_told_codes(volume)}, most have {most_codes}")
        if _told_thick(volume) != most_thick:
            texts.append(f"{_told_thick(volume)}, most have {most_thick}")
        if (spacing < median / 2).any() or (spacing > median * 2).any():
            texts.append(f"voxels of {_text(spacing)} mm along left-right, back-front, feet-head, most {_text(median)}")
        if texts:
            others[file] = "; ".join(texts)
    return others


def _told_codes(volume: VolumeAxes) -> str:
    return volume.codes if volume.is_stated else "that its header does not tell"


def _told_thick(volume: VolumeAxes) -> str:
    axis = volume.thick_axis()
    if axis is None:
        return "no thick slices"
    name = ("left to right", "back to front", "feet to head")[_world_axis(volume.codes[axis])]
    return f"thick slices {f'from {name}' if volume.is_stated else f'along the axis {axis}'}"


def _text(spacing: Sequence[float] | np.ndarray) -> str:
    return " x ".join(f"{side:.4g}" for side in spacing)


def require_axcodes(axcodes: str) -> None:
    """
    Check axis codes.

    Raises:
        ValueError: when they are not three, one of L and R, one of A and P, and one of S and I, in any order.
    """
    if not isinstance(axcodes, str) or sorted(map(_world_axis, axcodes)) != [0, 1, 2]:
        raise ValueError(
            f"the orientation is {axcodes!r}, expected three letters, one of L and R, one of A and P, and one of S and "
            "I, with the direction of the slices last, such as LPS"
        )


def _world_axis(code: str) -> int:
    return next((axis for axis, codes in enumerate(("LR", "PA", "IS")) if code in codes), -1)


def _world_spacing(volume: VolumeAxes) -> np.ndarray:
    """Sides of a voxel along left-right, back-front and feet-head."""
    spacing = np.empty(3)
    spacing[volume._ornt()[:, 0].astype(int)] = voxel_spacing(volume.affine)
    return spacing
