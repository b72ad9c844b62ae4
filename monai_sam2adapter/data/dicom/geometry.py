# SPDX-License-Identifier: Apache-2.0
"""Where the slices of a DICOM series lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom

from ..geometry import LPS_TO_RAS

__all__ = ["DicomGeometry"]

_TOLERANCE = 0.1  # of the distance of slices: how far one may lie from its place in an even stack


@dataclass(frozen=True)
class DicomGeometry:
    """
    Order and place of slices that make up a volume, from the position and orientation that DICOM keeps for each.

    Positions decide, not the slice thickness, which differs where slices overlap or have gaps, and not the numbers of
    the images, which may run either way. A stack whose slices are shifted evenly (a tilted gantry) has a sheared
    affine.

    Args:
        order: index of each slice of the volume among the frames as given.
        affine: voxel (column, row, slice) to world (RAS+, mm) matrix, ``(4, 4)``.
    """

    order: tuple[int, ...]
    affine: np.ndarray

    @classmethod
    def of(cls, headers: Sequence[pydicom.Dataset]) -> DicomGeometry:
        """
        Args:
            headers: one for each file, single slices, or one with several frames.

        Returns:
            the geometry. One frame, or the frames of one file, need no position: the origin is 0 then, the axes
            those of the image.

        Raises:
            ValueError: when the slices do not make up a volume: they differ in size, pixel spacing or orientation, two
                are in the same place, one is missing, or distances are uneven by more than a tenth.
        """
        frames = [frame for header in headers for frame in _frames(header)]
        _require_equal("sizes", [(header.get("Rows"), header.get("Columns")) for header in headers], 0)
        _require_equal("pixel spacings", [frame.spacing for frame in frames], 1e-3)
        without = sum(frame.position is None or frame.orientation is None for frame in frames)
        if without:
            if len(headers) > 1:
                raise ValueError(f"{without} of {len(frames)} slices have no position or orientation in the patient")
            sides = (*frames[0].spacing[::-1], _thickness(headers[0]), 1.0)
            return cls(tuple(range(len(frames))), LPS_TO_RAS @ np.diag(sides))
        _require_equal("orientations", [frame.orientation for frame in frames], 1e-3)
        row, column = np.reshape(frames[0].orientation, (2, 3)).astype(float)
        normal = np.cross(row, column)
        positions = np.array([frame.position for frame in frames], dtype=float)
        order = np.argsort(positions @ normal, kind="stable")
        affine = np.eye(4)
        affine[:3, 0] = row * frames[0].spacing[1]  # PixelSpacing is that of rows, then that of columns
        affine[:3, 1] = column * frames[0].spacing[0]
        affine[:3, 2] = _step(positions[order], normal, headers[0])
        affine[:3, 3] = positions[order[0]]
        return cls(tuple(order.tolist()), LPS_TO_RAS @ affine)


@dataclass(frozen=True)
class _Frame:
    position: Any  # x, y, z, mm, or None
    orientation: Any  # direction of rows, then of columns, or None
    spacing: tuple[float, float]


def _frames(header: pydicom.Dataset) -> list[_Frame]:
    """The slices of one file; those of several frames keep their place in sequences, for all or for each of them."""
    shared = (header.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    groups = header.get("PerFrameFunctionalGroupsSequence") or [None] * int(header.get("NumberOfFrames") or 1)
    return [_frame([header] if group is None else [group, shared, header]) for group in groups]


def _frame(places: Sequence[pydicom.Dataset]) -> _Frame:
    spacing = _look_up(places, "PixelMeasuresSequence", "PixelSpacing") or (1.0, 1.0)
    return _Frame(
        _look_up(places, "PlanePositionSequence", "ImagePositionPatient"),
        _look_up(places, "PlaneOrientationSequence", "ImageOrientationPatient"),
        (float(spacing[0]), float(spacing[1])),
    )


def _look_up(places: Sequence[pydicom.Dataset], sequence: str, keyword: str) -> Any:
    for place in places:
        item = (place.get(sequence) or [place])[0]
        if item.get(keyword):
            return item.get(keyword)
    return None


def _thickness(header: pydicom.Dataset) -> float:
    """Distance of slices as far as one file tells it, in mm."""
    shared = (header.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        found = _look_up([shared, header], "PixelMeasuresSequence", keyword)
        if found:
            return abs(float(found))
    return 1.0


def _require_equal(what: str, values: Sequence[Any], tolerance: float) -> None:
    different = [value for value in values if not np.allclose(np.float64(value), np.float64(values[0]), atol=tolerance)]
    if different:
        first, other = ([round(float(x), 4) for x in value] for value in (values[0], different[0]))
        raise ValueError(f"its slices have different {what}, such as {first} and {other}; they are no volume")


def _step(positions: np.ndarray, normal: np.ndarray, header: pydicom.Dataset) -> np.ndarray:
    """Vector from each slice to the next, in mm, of sorted slices."""
    if len(positions) == 1:
        return normal * _thickness(header)
    distances = np.diff(positions @ normal)
    usual = float(np.median(distances))
    close = int((distances < 0.01 * usual).sum()) if usual > 0 else len(distances)
    if usual < 1e-3 or close:
        raise ValueError(
            f"{close + 1} of its {len(positions)} slices share their places: it holds several volumes (time points, "
            "echoes, repetitions); split it into one series for each"
        )
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    even = positions[0] + np.arange(len(positions))[:, None] * step
    if np.linalg.norm(positions - even, axis=1).max() <= _TOLERANCE * usual:
        return step
    gap = int(distances.argmax())
    if distances[gap] > 1.5 * usual:
        raise ValueError(
            f"slices are missing: {distances[gap]:.2f} mm between slice {gap + 1} and {gap + 2}, mostly {usual:.2f} mm"
        )
    raise ValueError(
        f"its slices lie unevenly, {distances.min():.2f} to {distances.max():.2f} mm apart; resample it evenly"
    )
