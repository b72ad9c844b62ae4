# SPDX-License-Identifier: Apache-2.0
"""Where the slices of a DICOM series lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom

from ..geometry import LPS_TO_RAS
from .headers import numbers_of

__all__ = ["DicomGeometry", "has_place", "orientations"]

_TOLERANCE = 0.1  # of the distance of slices: how far one may lie from its place in an even stack
_UNIT = 1e-3  # how far directions may be from unit vectors at right angles, which files round to 3 to 16 digits
# where the distance of pixels is kept; the last two are that at the detector, not in the patient
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
# of nuclear medicine, what the frames of a file are counted by beside its slices
_VECTORS = ("EnergyWindowVector", "DetectorVector", "PhaseVector", "RRIntervalVector", "TimeSlotVector")


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
        notes: one text for everything that the files do not say, and what was taken in its place. Defaults to none.
    """

    order: tuple[int, ...]
    affine: np.ndarray
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, headers: Sequence[pydicom.Dataset], names: Sequence[str] = ()) -> DicomGeometry:
        """
        Args:
            headers: one for each file, single slices, or one with several frames.
            names: names of the files, for messages. Defaults to none.

        Returns:
            the geometry. Of a picture, one frame that has no position, the origin is 0, the axes are those of the
            image, and what it does not say of its size is 1 mm, with a note.

        Raises:
            ValueError: when the slices do not make up a volume: they differ in size, pixel spacing or orientation, two
                are in the same place, one is missing, distances are uneven by more than a tenth, or they say nothing of
                their place or of the distance of their pixels; or when these are no numbers, or directions no unit
                vectors at right angles. The message names the file.
        """
        files = names = names or [str(number) for number in range(1, len(headers) + 1)]
        frames = [frame for header, file in zip(headers, files, strict=True) for frame in _frames_of(header, file)]
        _require_equal("sizes", [(header.get("Rows"), header.get("Columns")) for header in headers], 0, files)
        if len(headers) == 1:
            names = [f"frame {number}" for number in range(1, len(frames) + 1)]
        without = [name for frame, name in zip(frames, names, strict=True) if not frame.has_place]
        if without and len(frames) > 1:
            raise ValueError(
                f"{len(without)} of {len(frames)} slices have no position or orientation in the patient, such as "
                f"{without[0]}; they are no volume"
            )
        spacing, notes = _pixel_spacing(frames, names, in_patient=not without)
        if without:
            thickness, more = _thickness(headers[0], files[0])
            affine = LPS_TO_RAS @ np.diag((*spacing[::-1], thickness, 1.0))
            return cls((0,), affine, (*notes, *more, "says nothing of its place in the patient; taken: the origin"))
        _require_equal("orientations", [frame.orientation for frame in frames], _UNIT, names)
        row, column, normal = _directions(frames[0].orientation)
        positions = np.array([frame.position for frame in frames], dtype=float)
        # the frames of nuclear medicine have their place by their number
        by_number = "DetectorInformationSequence" in headers[0]
        order = np.arange(len(frames)) if by_number else np.argsort(positions @ normal, kind="stable")
        if len(frames) == 1:
            thickness, more = _thickness(headers[0], files[0])
            step, notes = normal * thickness, [*notes, *more]
        else:
            step = _step(positions[order], normal, [names[int(index)] for index in order])
        affine = np.eye(4)
        affine[:3, 0] = row * spacing[1]  # PixelSpacing is that of rows, then that of columns
        affine[:3, 1] = column * spacing[0]
        affine[:3, 2] = step
        affine[:3, 3] = positions[order[0]]
        return cls(tuple(order.tolist()), LPS_TO_RAS @ affine, tuple(notes))


def has_place(header: pydicom.Dataset) -> bool:
    """Whether a file says where any of its frames lies in the patient."""
    try:
        return any(frame.position is not None for frame in _frames(header))
    except ValueError:  # for reading it to tell
        return True


def orientations(headers: Sequence[pydicom.Dataset]) -> int:
    """In how many different planes, to 0.1, single slices lie."""
    try:
        planes = [numbers_of(header, "ImageOrientationPatient", 6) for header in headers]
    except ValueError:  # for reading them to tell
        return 1
    return len({tuple(np.round(plane, 1) + 0.0) for plane in planes if plane})


@dataclass(frozen=True)
class _Frame:
    position: Any  # x, y, z, mm, or None
    orientation: Any  # direction of rows, then of columns, or None
    spacing: Any  # of rows, then of columns, mm, or None
    spacing_name: str

    @property
    def has_place(self) -> bool:
        return self.position is not None and self.orientation is not None


@contextmanager
def _naming(file: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{error} (file {file})") from error


def _frames_of(header: pydicom.Dataset, file: str) -> list[_Frame]:
    with _naming(file):
        frames = _frames(header)
        for frame in frames:
            if frame.orientation is not None:
                _directions(frame.orientation)
            if frame.spacing is not None and not min(frame.spacing) > 0:
                distances = _join(frame.spacing)
                raise ValueError(f"its {frame.spacing_name} is {distances}, expected two positive distances in mm")
    return frames


def _directions(orientation: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Directions of the rows, of the columns, and from slice to slice, of length 1."""
    row, column = np.reshape(orientation, (2, 3))
    lengths = np.linalg.norm([row, column], axis=1)
    if np.abs(lengths - 1).max() > _UNIT:
        raise ValueError(
            f"its ImageOrientationPatient is {_join(orientation)}, of the lengths {_join(lengths)}, expected 1; get it "
            "again, or convert it with the right one"
        )
    row, column = row / lengths[0], column / lengths[1]
    if abs(row @ column) > _UNIT:
        raise ValueError(
            f"its ImageOrientationPatient is {_join(orientation)}, whose rows and columns are not at right angles; get "
            "it again, or convert it with the right one"
        )
    normal = np.cross(row, column)
    return row, column, normal / np.linalg.norm(normal)


def _join(numbers: Sequence[float] | np.ndarray) -> str:
    return "[" + ", ".join(f"{number:.6g}" for number in numbers) + "]"


def _frames(header: pydicom.Dataset) -> list[_Frame]:
    """The slices of one file; those of several frames keep their place in sequences, for all or for each of them."""
    shared = (header.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    number = int(header.get("NumberOfFrames") or 1)
    groups = header.get("PerFrameFunctionalGroupsSequence") or [None] * number
    if len(groups) != number:
        raise ValueError(f"it says that it has {number} frames, and where {len(groups)} of them lie")
    if "DetectorInformationSequence" in header:
        return _frames_of_detector(header, number)
    if number > 1 and groups[0] is None:  # one position cannot be that of all
        return [_Frame(None, None, None, "")] * number
    return [_frame([header] if group is None else [group, shared, header]) for group in groups]


def _frames_of_detector(header: pydicom.Dataset, number: int) -> list[_Frame]:
    """
    The slices of nuclear medicine: a detector has the position of the first one, and the sign of their distance says
    which way they go (DICOM PS3.3, C.8.4.15). Frames that are not slices (projections, times) have no place.
    """
    kind = str((list(header.get("ImageType") or ()) + [""] * 3)[2])
    several = [name for name in _VECTORS if len(set(np.atleast_1d(header.get(name) or 1).tolist())) > 1]
    detectors = header.DetectorInformationSequence
    if number > 1 and (several or len(detectors) > 1 or not kind.startswith("RECON")):
        what = ", ".join(several) or kind or "no ImageType"
        raise ValueError(f"its {number} frames are not the slices of one volume ({what}); save each volume as a series")
    first = _frame([detectors[0], header] if detectors else [header])
    step = numbers_of(header, "SpacingBetweenSlices", 1)
    if number == 1 or not first.has_place:
        return [first] * number
    if not step or not step[0]:
        raise ValueError(f"it does not say how far its {number} slices are apart (SpacingBetweenSlices)")
    way = step[0] * _directions(first.orientation)[2]
    places = np.asarray(first.position) + np.arange(number)[:, None] * way
    return [_Frame(place, first.orientation, first.spacing, first.spacing_name) for place in places]


def _frame(places: Sequence[pydicom.Dataset]) -> _Frame:
    found = ((name, _look_up(places, "PixelMeasuresSequence", name, 2)) for name in _SPACINGS)
    name, spacing = next(((name, value) for name, value in found if value), ("", None))
    return _Frame(
        _look_up(places, "PlanePositionSequence", "ImagePositionPatient", 3),
        _look_up(places, "PlaneOrientationSequence", "ImageOrientationPatient", 6),
        spacing,
        name,
    )


def _look_up(places: Sequence[pydicom.Dataset], sequence: str, keyword: str, count: int) -> list[float] | None:
    items = ((place.get(sequence) or [place])[0] for place in places)
    return next(filter(None, (numbers_of(item, keyword, count) for item in items)), None)


def _pixel_spacing(frames: Sequence[_Frame], names: Sequence[str], in_patient: bool) -> tuple[list[float], list[str]]:
    """Of rows, then of columns, in mm, and what is to be said of it."""
    given = [frame.spacing for frame in frames if frame.spacing is not None]
    if not given and not in_patient:
        return [1.0, 1.0], ["says nothing of the distance of its pixels; taken: 1 mm"]
    without = [name for frame, name in zip(frames, names, strict=True) if frame.spacing is None]
    if without:
        raise ValueError(
            f"{len(without)} of {len(frames)} slices say nothing of the distance of their pixels (PixelSpacing), such "
            f"as {without[0]}; get it with this tag, or convert it with the right one"
        )
    _require_equal("pixel spacings", given, 1e-3, names)
    name = frames[0].spacing_name
    note = f"has no PixelSpacing; taken: {name}, {given[0][0]:g} x {given[0][1]:g} mm, that at the detector"
    return given[0], [] if name == _SPACINGS[0] else [note]


def _thickness(header: pydicom.Dataset, file: str) -> tuple[float, list[str]]:
    """Thickness of one slice, in mm, and what is to be said of it."""
    shared = (header.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        with _naming(file):
            found = _look_up([shared, header], "PixelMeasuresSequence", keyword, 1)
        if found and found[0]:
            return abs(found[0]), []
    return 1.0, ["says nothing of its thickness; taken: 1 mm"]


def _require_equal(what: str, values: Sequence[Any], tolerance: float, names: Sequence[str]) -> None:
    first = np.float64(values[0])
    other = next((n for n, value in enumerate(values) if not np.allclose(np.float64(value), first, atol=tolerance)), 0)
    if other:
        one, two = ([round(float(number), 4) for number in values[index]] for index in (0, other))
        raise ValueError(
            f"slices have different {what}, such as {one} and {two}; they are no volume ({names[0]}, {names[other]})"
        )


def _step(positions: np.ndarray, normal: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Vector from each slice to the next, in mm, of slices in their order."""
    distances = np.abs(np.diff(positions @ normal))
    usual = float(np.median(distances))
    close = np.flatnonzero(distances < 0.01 * usual) if usual > 1e-3 else np.arange(len(distances))
    if len(close):
        pair = f"{names[close[0]]} and {names[close[0] + 1]}"
        raise ValueError(
            f"{len(close) + 1} of its {len(positions)} slices share their places: it holds several volumes (time "
            f"points, echoes, repetitions), or slices twice, such as {pair}; split it into one series for each"
        )
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    even = positions[0] + np.arange(len(positions))[:, None] * step
    if np.linalg.norm(positions - even, axis=1).max() <= _TOLERANCE * usual:
        return step
    gap = int(distances.argmax())
    if distances[gap] > 1.5 * usual:
        raise ValueError(
            f"slices are missing: {distances[gap]:.2f} mm between slice {gap + 1} and {gap + 2}, mostly {usual:.2f} mm "
            f"({names[gap]} and {names[gap + 1]})"
        )
    raise ValueError(
        f"its slices lie unevenly, {distances.min():.2f} to {distances.max():.2f} mm apart; resample it evenly"
    )
