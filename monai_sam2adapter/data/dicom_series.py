# SPDX-License-Identifier: Apache-2.0
"""DICOM series in folders: telling them apart, and naming each by one string."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.uid import UID

__all__ = ["DicomSeries"]

logger = logging.getLogger(__name__)

_ADDRESS = re.compile(r"(?P<folder>.+)#series=(?P<uid>[^#]*)")
# modalities whose pixels are not an image of the patient
_NO_IMAGE = ("SEG", "RTDOSE")
_TAGS = ["ImageType", "Modality", "SeriesInstanceUID", "SeriesDescription", "SeriesNumber", "Rows", "NumberOfFrames"]


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
            whether it begins as DICOM files do: 128 bytes and "DICM".
        """
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"

    @classmethod
    def find(cls, folder: str | os.PathLike[str]) -> list[DicomSeries]:
        """
        List the series of images in a folder, without the folders in it.

        What holds no image of the patient (reports, DICOMDIR, segmentations, dose) and scout images (ImageType
        LOCALIZER) are left out, with a line in the log. A file with several frames is a series of its own, and so is a
        file that cannot be read, so that reading it tells why.

        Args:
            folder: the folder.

        Returns:
            the series, by number and description.
        """
        folder = Path(folder)
        parts: dict[str, list[tuple[Path, pydicom.Dataset | None]]] = {}
        left_out: Counter[str] = Counter()
        for path in _dicom_files(folder):
            header = _read_header(path)
            reason = _why_not(header)
            if reason:
                left_out[reason] += 1
            elif header is None or _has_frames(header):
                parts[str(path)] = [(path, header)]
            else:
                uid = str(header.get("SeriesInstanceUID", ""))
                parts.setdefault(f"{folder}#series={uid}", []).append((path, header))
        for reason, count in left_out.items():
            logger.info("%s: left out %d DICOM files: %s", folder, count, reason)
        found = [_make_series(address, files) for address, files in parts.items()]
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
                raise ValueError(f"{folder} is not a DICOM file")
            return cls(str(folder), (folder,))
        if not folder.is_dir():
            raise FileNotFoundError(f"no file or folder {folder}")
        if match:
            headers = [(path, _read_header(path)) for path in _dicom_files(folder)]
            files = [(path, header) for path, header in headers if _uid(header) == match["uid"]]
            if not files:
                raise FileNotFoundError(f"no series {match['uid']!r} in {folder}")
            # scout images are taken when they are all there is, since they were asked for
            return _make_series(str(address), [file for file in files if not _why_not(file[1])] or files)
        found = cls.find(folder)
        if len(found) != 1:
            names = ", ".join(series.address for series in found) or "none"
            raise ValueError(f"{folder} must hold one DICOM series of images to be read as one, it holds: {names}")
        return found[0]


def _dicom_files(folder: Path) -> list[Path]:
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        try:
            if DicomSeries.is_dicom(path):
                found.append(path)
        except OSError:  # may be a slice; reading it will tell why it cannot be read
            found.append(path)
    return found


def _read_header(path: Path) -> pydicom.Dataset | None:
    """The tags that tell series apart; None for a damaged file, also one that ends before the tags of its image."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
        kind = UID(header.file_meta.get("MediaStorageSOPClassUID") or "").name
    except Exception as error:  # whatever pydicom stumbles over
        logger.debug("%s: %s", path, error)
        return None
    return None if "Rows" not in header and (not kind or "Image Storage" in kind) else header


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


def _make_series(address: str, files: list[tuple[Path, pydicom.Dataset | None]]) -> DicomSeries:
    first = files[0][1] or pydicom.Dataset()
    number, description = (str(first.get(tag) or "") for tag in ("SeriesNumber", "SeriesDescription"))
    return DicomSeries(address, tuple(path for path, _ in files), number, description)
