# SPDX-License-Identifier: Apache-2.0
"""What the values of DICOM slices mean, which must be said in full, and be the same for all slices of a volume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pydicom

from .headers import numbers_of

__all__ = ["GRAY", "require_one_meaning", "value_notes", "value_problem"]

GRAY = ("MONOCHROME1", "MONOCHROME2")
# modalities whose values have a unit
_MEASURED = ("CT", "PT", "NM")
_SCALE = ("RescaleSlope", "RescaleIntercept")
_BITS = ("BitsAllocated", "BitsStored", "PixelRepresentation")
_ALLOCATED = (8, 16, 32)
_PERSON = ("PatientID", "PatientName", "PatientBirthDate")  # of which no value belongs into a log
# what is the same in all slices of one volume: whose and where they are, how values are stored, and their unit
_SAME = (
    *_PERSON,
    *("StudyInstanceUID", "FrameOfReferenceUID", "Modality"),
    *("PhotometricInterpretation", "PresentationLUTShape", *_BITS, "HighBit"),
    *("RescaleType", "Units", "SUVType", "DecayCorrection"),
)


def value_problem(header: pydicom.Dataset) -> str:
    """Why pixels would be read with other values than the file's; empty when all is well."""
    colors = str(header.get("PhotometricInterpretation", GRAY[1]))
    if header.get("SamplesPerPixel", 1) != 1 or colors not in GRAY:
        return f"it has colors ({colors}), expected gray values"
    if colors == GRAY[0] and header.get("Modality") in _MEASURED:
        return f"it is {colors}, which leaves open whether the values of {header.Modality} are inverted; convert it"
    if header.get("ModalityLUTSequence"):
        return "its values are numbers of a table (ModalityLUTSequence), expected a slope and an intercept; convert it"
    return _bits_problem(header) or _scale_problem(header)


def require_one_meaning(headers: Sequence[pydicom.Dataset], names: Sequence[str]) -> None:
    """
    Check that the values of all slices mean the same. Slopes and intercepts may differ from file to file, since each is
    read by its own; but all files have them, or none.

    Args:
        headers: one for each file.
        names: names of the files, for messages.

    Raises:
        ValueError: when a file differs from most others; the message names it, the tag and both values, but none that
            tells who the patient is.
    """
    for keyword in (*_SAME, *_SCALE):
        values = [_text(header.get(keyword)) for header in headers]
        keys: list[str] = [str(bool(value)) for value in values] if keyword in _SCALE else values
        usual = Counter(keys).most_common(1)[0][0]
        other = next((index for index, key in enumerate(keys) if key != usual), None)
        if other is not None:
            most, its = ("" if keyword in _PERSON else values[k] or "none" for k in (keys.index(usual), other))
            raise ValueError(
                f"its slices differ in {keyword}: {f'mostly {most}, but {its} in' if most else 'another one in'} "
                f"{names[other]} ({sum(key != usual for key in keys)} of {len(keys)} files); they are no volume"
            )


def value_notes(header: pydicom.Dataset) -> list[str]:
    """What a file does not say of its values, and what is taken in its place."""
    places = [header, *(item for _, items in _transformations(header) for item in items)]
    slope, intercept = (any(_text(place.get(keyword)) for place in places) for keyword in _SCALE)
    notes = []
    if slope != intercept:
        there, absent, taken = (*_SCALE, 0) if slope else (*_SCALE[::-1], 1)
        notes.append(f"has {there} and no {absent}; taken: {taken}")
    if header.get("Modality") != "CT":
        return notes
    units = {_text(place.get("RescaleType")) for place in places} - {"", "HU"}
    if not intercept:
        notes.append("is CT without RescaleIntercept; taken: its values as they are, which may be no Hounsfield units")
    elif units:
        notes.append(f"is CT in {', '.join(sorted(units))} (RescaleType), not in Hounsfield units (HU); taken as it is")
    return notes


def _bits_problem(header: pydicom.Dataset) -> str:
    missing = [keyword for keyword in _BITS if header.get(keyword) is None]
    if missing:
        return f"it does not say how its values are stored ({', '.join(missing)}); get it again"
    allocated, stored, signed = (int(header.get(keyword)) for keyword in _BITS)
    high = int(header.get("HighBit", stored - 1))
    if allocated not in _ALLOCATED or not 1 <= stored <= allocated or signed not in (0, 1):
        text = ", ".join(f"{keyword} {header.get(keyword)}" for keyword in _BITS)
        return f"its values cannot be stored as it says ({text}); get it again"
    if allocated != 16 and stored != allocated:  # SimpleITK masks the words of 16 bits that they are made of
        return f"it uses {stored} of {allocated} bits, which can be read of 16 bits only; convert it"
    if high != stored - 1:
        return f"its HighBit is {high}, expected {stored - 1} (BitsStored {stored}); convert it"
    return ""


def _scale_problem(header: pydicom.Dataset) -> str:
    """Readers take 1 for a slope that is no number, and that of the first frame for all frames of a file."""
    scales: dict[Any, str] = {}
    try:
        if any(_text(header.get(keyword)) for keyword in _SCALE):
            scales[_scale(header)] = "of the file"
        for what, items in _transformations(header):
            for item in items:
                scales.setdefault(_scale(item), what)
    except ValueError as error:
        return str(error)
    frames = [group.get("PixelValueTransformationSequence") for group in _frames(header)]
    if any(frames) and not all(frames):
        without = next(number for number, items in enumerate(frames, start=1) if not items)
        return f"its frames have a rescale slope, but not frame {without}; convert it"
    if len(scales) > 1:
        one, other = (f"{scale[0]:g} * x + {scale[1]:g} {scale[2]}".strip() for scale in list(scales)[:2])
        places = list(scales.values())
        return (
            f"it has different rescale slopes or intercepts ({one} {places[0]} and {other} {places[1]}), expected one "
            "for all frames; convert it"
        )
    return ""


def _scale(item: pydicom.Dataset) -> tuple[float, float, str]:
    slope, intercept = (numbers_of(item, keyword, 1) for keyword in _SCALE)
    if slope == [0]:
        raise ValueError("its RescaleSlope is 0, which makes all values the same; get it again")
    return slope[0] if slope else 1.0, intercept[0] if intercept else 0.0, _text(item.get("RescaleType"))


def _frames(header: pydicom.Dataset) -> Sequence[pydicom.Dataset]:
    return header.get("PerFrameFunctionalGroupsSequence") or []


def _transformations(header: pydicom.Dataset) -> list[tuple[str, Sequence[pydicom.Dataset]]]:
    """Where a file of several frames says what its values mean."""
    groups = [("of all frames", group) for group in header.get("SharedFunctionalGroupsSequence") or []]
    groups += [(f"of frame {number}", group) for number, group in enumerate(_frames(header), start=1)]
    return [(what, group.get("PixelValueTransformationSequence") or []) for what, group in groups]


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()
