# SPDX-License-Identifier: Apache-2.0
"""DICOM series in folders: telling them apart, and naming each by one string."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.uid import UID

__all__ = ["DicomSeries"]

logger = logging.getLogger(__name__)

_ADDRESS = re.compile(r"(?P<folder>.+)#series=(?P<uid>[^#]*)")
# modalities whose pixels are not an image of the patient
_NO_IMAGE = ("SEG", "RTDOSE")
_TAGS = [
    *("SOPClassUID", "ImageType", "Modality", "SeriesInstanceUID", "SeriesDescription", "SeriesNumber"),
    *("Rows", "NumberOfFrames"),
]
_PREAMBLE = 132  # bytes, of which the last four are DICM
# the first group of a file that has no preamble (old archives), in either order of bytes
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
_EXTENSIONS = (".dcm", ".ima")
# names without an extension, such as IM0001 and 1.2.840.113619.2.5
_NO_EXTENSION = re.compile(r"[^.]+|[\d.]+")


@dataclass(frozen=True)
class DicomSeries:
    """
    One series of DICOM images: its files, in no order, and how they call it.

    A series is addressed by a string, which fits into lists, logs and metadata like the path of a file:
    ``FOLDER#series=UID``; the folder alone where it holds one series; a file for that file alone.

    Args:
        address: the string.
        files: its files.
        number: SeriesNumber, empty when it has none. Defaults to "".
        description: SeriesDescription, empty when it has none. Defaults to "".
    """

    address: str
    files: tuple[Path, ...]
    number: str = ""
    description: str = ""

    @staticmethod
    def is_dicom(path: str | os.PathLike[str]) -> bool:
        """
        Args:
            path: a file.

        Returns:
            whether it begins as DICOM files do, with 128 bytes and "DICM", or goes without these, as in old archives.
        """
        with open(path, "rb") as file:
            start = file.read(_PREAMBLE)
        if start[128:] == b"DICM":
            return True
        if start[:2] not in _FIRST_GROUPS:
            return False
        try:
            header = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=["SOPClassUID"])
        except Exception as error:  # whatever pydicom stumbles over in a file of another kind
            logger.debug("%s: %s", path, error)
            return False
        return str(header.get("SOPClassUID", "")).startswith("1.2.840.10008.")

    @classmethod
    def find(cls, folder: str | os.PathLike[str]) -> list[DicomSeries]:
        """
        List the series of images in a folder, without the folders in it.

        What holds no image of the patient (reports, DICOMDIR, segmentations, dose) and scout images (ImageType
        LOCALIZER) are left out, with a line in the log. A file with several frames is a series of its own.

        A damaged file belongs to the series when there is only one, so that reading this fails, instead of giving a
        volume that lacks a slice; beside several series it is one of its own, which cannot be read either. Damaged are
        also, among DICOM files, a ``.dcm`` or ``.ima`` that is not DICOM, and files too short to be DICOM that are
        named like the others or without an extension.

        Args:
            folder: the folder.

        Returns:
            the series, by number and description.
        """
        folder = Path(folder)
        headers = _read_headers(folder)
        left_out = Counter(reason for header in headers.values() if (reason := _why_not(header)))
        for reason, count in left_out.items():
            logger.info("%s: left out %d DICOM files: %s", folder, count, reason)
        headers = {path: header for path, header in headers.items() if not _why_not(header)}
        parts: dict[str, list[Path]] = {}
        for uid in sorted({uid for header in headers.values() if (uid := _uid(header)) is not None}):
            parts[f"{folder}#series={uid}"] = _files_of(uid, headers)
        in_series = {path for files in parts.values() for path in files}
        parts |= {str(path): [path] for path in headers if path not in in_series}
        found = [_make_series(address, files, headers) for address, files in parts.items()]
        if len(found) == 1:
            found = [cls(str(folder), found[0].files, found[0].number, found[0].description)]
        return sorted(found, key=lambda series: (series.number.zfill(9), series.description, series.address))

    @classmethod
    def open(cls, address: str | os.PathLike[str]) -> DicomSeries:
        """
        Args:
            address: ``FOLDER#series=UID``, a folder with one series, or a file.

        Returns:
            the series, its pixels not read yet.

        Raises:
            FileNotFoundError: when the folder or file does not exist, or has no such series.
            ValueError: when the folder holds several series, or the file is not DICOM.
        """
        match = _ADDRESS.fullmatch(str(address))
        folder = Path(match["folder"] if match else address)
        if folder.is_file() and not match:
            if not cls.is_dicom(folder):
                raise ValueError(f"{folder} is not a DICOM file, or is damaged")
            return cls(str(folder), (folder,))
        if not folder.is_dir():
            raise FileNotFoundError(f"no file or folder {folder}")
        if match:
            headers = _read_headers(folder)
            if match["uid"] not in map(_uid, headers.values()):
                raise FileNotFoundError(f"no series {match['uid']!r} in {folder}")
            images = {path: header for path, header in headers.items() if not _why_not(header)}
            # scout images are taken when they are all there is, since they were asked for
            asked = images if match["uid"] in map(_uid, images.values()) else headers
            return _make_series(str(address), _files_of(match["uid"], asked), asked)
        found = cls.find(folder)
        if len(found) != 1:
            names = ", ".join(series.address for series in found) or "none"
            raise ValueError(f"{folder} must hold one DICOM series of images to be read as one, it holds: {names}")
        return found[0]


def _read_headers(folder: Path) -> dict[Path, pydicom.Dataset | None]:
    """The tags that tell series apart, by file; None for a damaged file."""
    headers: dict[Path, pydicom.Dataset | None] = {}
    others = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        try:
            if DicomSeries.is_dicom(path):
                headers[path] = _read_header(path)
            else:
                others.append(path)
        except OSError:  # may be a slice; reading it will tell why it cannot be read
            headers[path] = None
    damaged = _damaged(others, {path.suffix for path in headers}) if any(headers.values()) else []
    unknown = [path.name for path in others if path not in damaged and _is_named_as_dicom(path, bool(headers))]
    if unknown:
        logger.warning("%s: left out %d files that are not DICOM: %s", folder, len(unknown), _enumerate(unknown))
    headers |= dict.fromkeys(damaged)
    return dict(sorted(headers.items()))


def _damaged(others: list[Path], extensions: set[str]) -> list[Path]:
    """Those of a folder's other files that must have been DICOM, going by their names and by those that are."""
    return [
        path
        for path in others
        if path.suffix.lower() in _EXTENSIONS
        or (path.stat().st_size < _PREAMBLE and (path.suffix in extensions or _NO_EXTENSION.fullmatch(path.name)))
    ]


def _is_named_as_dicom(path: Path, among_dicom: bool) -> bool:
    return path.suffix.lower() in _EXTENSIONS or (among_dicom and bool(_NO_EXTENSION.fullmatch(path.name)))


def _enumerate(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _read_header(path: Path) -> pydicom.Dataset | None:
    """The tags that tell series apart; None for a damaged file, also one that ends before the tags of its image."""
    try:
        header = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=_TAGS)
        kind = UID(header.file_meta.get("MediaStorageSOPClassUID") or header.get("SOPClassUID") or "").name
    except Exception as error:  # whatever pydicom stumbles over
        logger.debug("%s: %s", path, error)
        return None
    return None if "Rows" not in header and (not kind or "Image Storage" in kind) else header


def _files_of(uid: str, headers: Mapping[Path, pydicom.Dataset | None]) -> list[Path]:
    """The slices of a series, with damaged files when there is no other that they could be of."""
    alone = len({_uid(header) for header in headers.values()} - {None}) == 1
    return [path for path, header in headers.items() if _uid(header) == uid or (alone and header is None)]


def _uid(header: pydicom.Dataset | None) -> str | None:
    """Which series of single slices an image belongs to; None for what is no such image."""
    if header is None or "Rows" not in header or _has_frames(header):
        return None
    return str(header.get("SeriesInstanceUID", ""))


def _has_frames(header: pydicom.Dataset) -> bool:
    return int(header.get("NumberOfFrames") or 1) > 1


def _why_not(header: pydicom.Dataset | None) -> str:
    """Why a file is no image to be segmented; empty when it is one, or is damaged."""
    if header is None:
        return ""
    modality = str(header.get("Modality", ""))
    if "Rows" not in header or modality in _NO_IMAGE:
        return f"no image ({modality or 'no modality'})"
    if "LOCALIZER" in (header.get("ImageType") or ()):
        return f"scout images, series {header.get('SeriesDescription') or 'without a name'}"
    return ""


def _make_series(address: str, files: list[Path], headers: Mapping[Path, pydicom.Dataset | None]) -> DicomSeries:
    first = next((headers[path] for path in files if headers[path] is not None), None) or pydicom.Dataset()
    number, description = (str(first.get(tag) or "") for tag in ("SeriesNumber", "SeriesDescription"))
    return DicomSeries(address, tuple(files), number, description)
