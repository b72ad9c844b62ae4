# SPDX-License-Identifier: Apache-2.0
"""DICOM series in folders: reading each header once, and telling the series apart."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import UID

from .geometry import DicomGeometry

__all__ = ["DicomFolder", "DicomSeries"]

logger = logging.getLogger(__name__)

_Headers = Mapping[Path, pydicom.Dataset | None]  # by file; None for a damaged one

_ADDRESS = re.compile(r"(?P<folder>.+)#series=(?P<uid>[^#]*)")
# modalities whose pixels are not an image of the patient
_NO_IMAGE = ("SEG", "RTDOSE")
# what a series keeps of each header: what it is, where it lies, and what a segmentation refers to
_TAGS = [
    *("SOPClassUID", "ImageType", "Modality", "SeriesInstanceUID", "SeriesDescription", "SeriesNumber"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SpacingBetweenSlices", "SliceThickness"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("StudyInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"),
]
_PREAMBLE = 132  # bytes, of which the last four are DICM
# the first group of a file that has no preamble (old archives), in either order of bytes
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
_EXTENSIONS = (".dcm", ".ima")
# names without an extension, such as IM0001 and 1.2.840.113619.2.5
_NO_EXTENSION = re.compile(r"[^.]+|[\d.]+")


class DicomSeries(str):
    """
    One series of DICOM images: a string that names it in lists, logs and metadata like the path of a file, and that
    carries its files and what their headers say, so that nobody has to search the folder again.

    The string is ``FOLDER#series=UID``; the folder alone where it holds one series; a file for that file alone. A plain
    string of this form names a series too: :py:meth:`open` finds its files. It passes through
    ``monai.transforms.LoadImaged(..., expanduser=False)``, which without that option makes a plain string of it.

    Args:
        address: the string.
        headers: what was read of each file's header, in no order; None for a damaged file. Defaults to none.
    """

    headers: dict[Path, pydicom.Dataset | None]

    def __new__(cls, address: str, headers: _Headers | None = None) -> DicomSeries:
        series = super().__new__(cls, address)
        series.headers = dict(headers or {})
        return series

    def __deepcopy__(self, memo: Any) -> DicomSeries:  # MONAI copies metadata often
        return self

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files, in no order."""
        return tuple(self.headers)

    @property
    def number(self) -> str:
        """SeriesNumber, empty when it has none."""
        return str(self.tag("SeriesNumber") or "")

    @property
    def description(self) -> str:
        """SeriesDescription, empty when it has none."""
        return str(self.tag("SeriesDescription") or "")

    def tag(self, keyword: str) -> Any:
        """What the first file that is not damaged says, of the tags that are kept; None when it does not."""
        return next((header.get(keyword) for header in self.headers.values() if header is not None), None)

    def geometry(self) -> DicomGeometry:
        """
        Returns:
            order and place of the slices, of which one is a file or a frame of the only one.

        Raises:
            ValueError: when a file is damaged or no gray image, or they are no volume.
        """
        headers = []
        for file, header in self.headers.items():
            if header is None or "Rows" not in header:
                raise ValueError(f"{file.name} is damaged: it has no image; get it again")
            if header.get("SamplesPerPixel", 1) != 1:
                raise ValueError(f"it has colors ({header.get('PhotometricInterpretation')}), expected gray values")
            headers.append(header)
        return DicomGeometry.of(headers)

    @classmethod
    def open(cls, address: str | os.PathLike[str]) -> DicomSeries:
        """
        Args:
            address: ``FOLDER#series=UID``, a folder with one series, a file, or a series, which is returned as it is.

        Returns:
            the series, its pixels not read yet.

        Raises:
            FileNotFoundError: when the folder or file does not exist, or has no such series.
            ValueError: when the folder holds several series, or the file is not DICOM.
        """
        if isinstance(address, DicomSeries):
            return address
        match = _ADDRESS.fullmatch(str(address))
        if match:
            return DicomFolder(match["folder"]).pick(match["uid"])
        path = Path(address)
        if path.is_file():
            return cls(str(path), {path: _read_header(path)})
        found = DicomFolder(path).series()
        if len(found) != 1:
            names = ", ".join(found) or "none"
            raise ValueError(f"{path} must hold one DICOM series of images to be read as one, it holds: {names}")
        return found[0]


class DicomFolder:
    """
    The DICOM files of a folder, without the folders in it. Their headers are read when it is made, each once.

    A damaged file belongs to the series when there is only one, so that reading this fails, instead of giving a
    volume that lacks a slice; beside several series it is one of its own, which cannot be read either. Damaged are
    also, among DICOM files, a ``.dcm`` or ``.ima`` that is not DICOM, and files too short to be DICOM that are
    named like the others or without an extension.

    Args:
        folder: the folder.

    Raises:
        FileNotFoundError: when there is no such folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"no file or folder {self.folder}")
        self.headers = _read_headers(self.folder)

    def series(self) -> list[DicomSeries]:
        """
        List the series of images. What holds no image of the patient (reports, DICOMDIR, segmentations, dose) and scout
        images (ImageType LOCALIZER) are left out, with a line in the log. A file with several frames is a series of its
        own.

        Returns:
            the series, by number and description.
        """
        for reason, count in Counter(filter(None, map(_why_not, self.headers.values()))).items():
            logger.info("%s: left out %d DICOM files: %s", self.folder, count, reason)
        images = self._images()
        uids = sorted({uid for header in images.values() if (uid := _uid(header)) is not None})
        found = [DicomSeries(f"{self.folder}#series={uid}", _files_of(uid, images)) for uid in uids]
        in_series = {path for series in found for path in series.files}
        found += [DicomSeries(str(path), {path: images[path]}) for path in images if path not in in_series]
        if len(found) == 1:
            found = [DicomSeries(str(self.folder), found[0].headers)]
        return sorted(found, key=lambda series: (series.number.zfill(9), series.description, series))

    def pick(self, uid: str) -> DicomSeries:
        """
        Args:
            uid: SeriesInstanceUID. Scout images are taken when they are all that has it, since they were asked for.

        Returns:
            the series.

        Raises:
            FileNotFoundError: when there is none.
        """
        if uid not in map(_uid, self.headers.values()):
            raise FileNotFoundError(f"no series {uid!r} in {self.folder}")
        images = self._images()
        files = _files_of(uid, images if uid in map(_uid, images.values()) else self.headers)
        return DicomSeries(f"{self.folder}#series={uid}", files)

    def _images(self) -> _Headers:
        return {path: header for path, header in self.headers.items() if not _why_not(header)}


def _read_headers(folder: Path) -> dict[Path, pydicom.Dataset | None]:
    headers: dict[Path, pydicom.Dataset | None] = {}
    others = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        try:
            headers[path] = _read_header(path)
        except ValueError:
            others.append(path)
        except OSError:  # may be a slice
            headers[path] = None
    damaged = _damaged(others, {path.suffix for path in headers}) if any(headers.values()) else []
    unknown = [path.name for path in others if path not in damaged and _is_named_as_dicom(path, bool(headers))]
    if unknown:
        names = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        logger.warning("%s: left out %d files that are not DICOM: %s", folder, len(unknown), names)
    return dict(sorted({**headers, **dict.fromkeys(damaged)}.items()))


def _read_header(path: Path) -> pydicom.Dataset | None:
    """The tags of a DICOM file; None for a damaged one, also for one that ends before the tags of its image."""
    with open(path, "rb") as file:
        start = file.read(_PREAMBLE)
    has_preamble = start[128:] == b"DICM"
    header, kind = None, ""
    if has_preamble or start[:2] in _FIRST_GROUPS:
        try:
            header = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=_TAGS)
            kind = UID(header.file_meta.get("MediaStorageSOPClassUID") or header.get("SOPClassUID") or "").name
        except Exception as error:  # whatever pydicom stumbles over, in a file of another kind too
            logger.debug("%s: %s", path, error)
            header = None
    is_dicom = header is not None and str(header.get("SOPClassUID", "")).startswith("1.2.840.10008.")
    if not has_preamble and not is_dicom:
        raise ValueError(f"{path} is not a DICOM file, or is damaged")
    return None if header is None or ("Rows" not in header and (not kind or "Image Storage" in kind)) else header


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


def _files_of(uid: str, headers: _Headers) -> _Headers:
    """The slices of a series, with damaged files when there is no other that they could be of."""
    alone = len({_uid(header) for header in headers.values()} - {None}) == 1
    return {path: header for path, header in headers.items() if _uid(header) == uid or (alone and header is None)}


def _uid(header: pydicom.Dataset | None) -> str | None:
    """Which series of single slices an image belongs to; None for what is no such image."""
    if header is None or "Rows" not in header or int(header.get("NumberOfFrames") or 1) > 1:
        return None
    return str(header.get("SeriesInstanceUID", ""))


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
