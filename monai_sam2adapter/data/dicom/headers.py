# SPDX-License-Identifier: Apache-2.0
"""Reading the headers of DICOM files, and telling damaged ones and copies."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pydicom
from pydicom.multival import MultiValue
from pydicom.uid import UID

from ...utils.logs import escaping_logger

__all__ = ["Headers", "find_copies", "numbers_of", "read_header", "read_headers"]

logger = escaping_logger(__name__)

Headers = Mapping[Path, pydicom.Dataset | None]
"""What was read of each file; None for a damaged one."""

_COUNTS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
)
_PATIENT = ("PatientID", "PatientName", "PatientBirthDate")
# what a series keeps of each header: what it is, where it lies, and what a segmentation refers to
_TAGS = [
    *("SOPClassUID", "ImageType", "Modality", "SeriesInstanceUID", "SeriesDescription", "SeriesNumber"),
    *(*_COUNTS, "PhotometricInterpretation"),
    *("ImagePositionPatient", "ImageOrientationPatient", "SpacingBetweenSlices", "SliceThickness"),
    *("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "ModalityLUTSequence"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "Units", "SUVType", "DecayCorrection", "PresentationLUTShape"),
    *("DetectorInformationSequence", "EnergyWindowVector", "DetectorVector", "PhaseVector", "RRIntervalVector"),
    "TimeSlotVector",
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("StudyInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"),
    *_PATIENT,
]
_PREAMBLE = 132  # bytes, of which the last four are DICM
# the first group of a file that has no preamble (old archives), in either order of bytes
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
_EXTENSIONS = (".dcm", ".ima")
# names without an extension, such as IM0001 and 1.2.840.113619.2.5
_UID, _NUMBER = re.compile(r"[\d.]+"), re.compile(r"\d+")
_NO_EXTENSION = re.compile(rf"[^.]+|{_UID.pattern}")


def read_headers(folder: Path) -> tuple[dict[Path, pydicom.Dataset | None], set[Path]]:
    """
    Read the headers of a folder's DICOM files, without the folders in it.

    Returns:
        for each file, sorted, what its header says of the tags that are kept, None for a damaged file; and the copies
        and files named as DICOM that are left out, with a line in the log.
    """
    headers: dict[Path, pydicom.Dataset | None] = {}
    others = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        try:
            headers[path] = read_header(path)
        except ValueError:
            others.append(path)
        except OSError:  # may be a slice
            headers[path] = None
    damaged = _damaged(others, list(headers)) if any(headers.values()) else []
    unknown = [path for path in others if path not in damaged and _is_named_as_dicom(path, bool(headers))]
    if unknown:
        names = ", ".join(path.name for path in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        logger.warning("%s: left out %d files that are not DICOM: %s", folder, len(unknown), names)
    copies = find_copies(headers, folder)
    kept = {path: header for path, header in headers.items() if path not in copies}
    return dict(sorted({**kept, **dict.fromkeys(damaged)}.items())), {*copies, *unknown}


def read_header(path: Path) -> pydicom.Dataset | None:
    """The tags of a DICOM file; None for a damaged one, also for one that ends before the tags of its image."""
    with open(path, "rb") as file:
        start = file.read(_PREAMBLE)
    has_preamble = start[128:] == b"DICM"
    header, kind = None, ""
    if has_preamble or start[:2] in _FIRST_GROUPS:
        try:
            header = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=_TAGS)
            for element in header:  # its numbers are read here, and those that are none found
                _ = element.value
            _ = [int(header.get(keyword) or 1) for keyword in _COUNTS]
            kind = UID(header.file_meta.get("MediaStorageSOPClassUID") or header.get("SOPClassUID") or "").name
        except Exception as error:  # whatever pydicom stumbles over, in a file of another kind too
            logger.debug("%s: %s", path, error)
            header = None
    is_dicom = header is not None and str(header.get("SOPClassUID", "")).startswith("1.2.840.10008.")
    if not has_preamble and not is_dicom:
        raise ValueError(f"{path} is not a DICOM file, or is damaged")
    return None if header is None or ("Rows" not in header and (not kind or "Image Storage" in kind)) else header


def numbers_of(item: pydicom.Dataset, keyword: str, count: int) -> list[float] | None:
    """
    The numbers that a tag holds; None where it is absent or empty.

    Raises:
        ValueError: when they are no finite numbers, or more or less than ``count``.
    """
    value = item.get(keyword)
    values = list(value) if isinstance(value, MultiValue) else [] if value in (None, "") else [value]
    try:
        found = [float(number) for number in values]
    except ValueError:
        found = [math.nan]
    if found and (len(found) != count or not all(map(math.isfinite, found))):
        text = ", ".join(map(str, values))
        raise ValueError(f"its {keyword} is {text!r}, expected {count} number{'s' if count > 1 else ''}; get it again")
    return found or None


def _damaged(others: Iterable[Path], images: Sequence[Path]) -> list[Path]:
    """
    Those of a folder's other files that must have been DICOM: by their extension, because they are named like one that
    is but for the numbers, or because they are numbered, too short to be DICOM, and no text (such as VERSION).
    """
    names, extensions = {_NUMBER.sub("#", path.name) for path in images}, {path.suffix for path in images}
    return [
        path
        for path in others
        if path.suffix.lower() in _EXTENSIONS
        or (_NUMBER.search(path.name) and _NUMBER.sub("#", path.name) in names)
        or (_NUMBER.search(path.name) and (path.suffix in extensions or _UID.fullmatch(path.name)) and _is_cut(path))
    ]


def _is_cut(path: Path) -> bool:
    if path.stat().st_size >= _PREAMBLE:
        return False
    content = path.read_bytes()
    return not content or not (content.isascii() and content.decode("ascii").replace("\n", "").isprintable())


def _is_named_as_dicom(path: Path, among_dicom: bool) -> bool:
    return path.suffix.lower() in _EXTENSIONS or (among_dicom and bool(_NO_EXTENSION.fullmatch(path.name)))


def find_copies(headers: Headers, folder: Path) -> set[Path]:
    """Of files with the same image, as a browser or an export makes them, all but the one with the shortest name."""
    first: dict[str, Path] = {}
    copies = {}
    for path in sorted(headers, key=lambda path: (len(path.name), path.name)):
        header = headers[path]
        uid = "" if header is None else str(header.get("SOPInstanceUID") or "")
        known = first.setdefault(uid, path) if uid else path
        if known != path and _is_equal(header, headers[known]) and _pixels(path) == _pixels(known):
            copies[path] = known
    if copies:
        text = ", ".join(
            f"{path.relative_to(folder)} of {known.relative_to(folder)}" for path, known in list(copies.items())[:5]
        )
        logger.warning("%s: left out %d copies of DICOM files: %s", folder, len(copies), text)
    return set(copies)


def _is_equal(header: pydicom.Dataset | None, other: pydicom.Dataset | None) -> bool:
    """Whether headers say the same of an image, if not of the patient, since one may be without names."""
    if header is None or other is None:
        return False
    return all(header.get(keyword) == other.get(keyword) for keyword in _TAGS if keyword not in _PATIENT)


def _pixels(path: Path) -> bytes:
    try:
        return bytes(pydicom.dcmread(path, force=True).get("PixelData", b""))
    except Exception as error:  # whatever pydicom stumbles over; reading it again tells
        logger.debug("%s: %s", path, error)
        return str(path).encode()
