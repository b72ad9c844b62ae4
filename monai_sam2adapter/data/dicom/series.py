# SPDX-License-Identifier: Apache-2.0
"""DICOM series in folders: reading each header once, and telling the series apart."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pydicom

from ...utils.logs import escaping_logger
from .geometry import DicomGeometry
from .headers import Headers, read_header, read_headers
from .no_volume import why_no_volume, why_not
from .values import require_one_meaning, value_notes, value_problem

__all__ = ["DicomFolder", "DicomSeries"]

logger = escaping_logger(__name__)

_ADDRESS = re.compile(r"(?P<folder>.+)#series=(?P<uid>[^#]*)")


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

    def __new__(cls, address: str, headers: Headers | None = None) -> DicomSeries:
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

    def why_no_volume(self) -> str:
        """Why it is left out where there are volumes beside it; empty when it may be a volume, or is damaged."""
        return why_no_volume(self.headers)

    def notes(self) -> list[str]:
        """What its files do not say of their values, and what is taken in its place."""
        return value_notes(next(header for header in self.headers.values() if header is not None))

    def geometry(self) -> DicomGeometry:
        """
        Returns:
            order and place of the slices, of which one is a file or a frame of the only one.

        Raises:
            ValueError: when a file is damaged or no gray image, or they are no volume, or their values or places do not
                mean the same; the message names the file.
        """
        headers, names = [], [file.name for file in self.files]
        for name, header in zip(names, self.headers.values(), strict=True):
            if header is None or "Rows" not in header:
                raise ValueError(f"{name} is damaged: it has no image; get it again")
            problem = value_problem(header)
            if problem:
                raise ValueError(f"{problem} (file {name})")
            headers.append(header)
        require_one_meaning(headers, names)
        return DicomGeometry.of(headers, names)

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
            return cls(str(path), {path: read_header(path)})
        found = DicomFolder(path).series()
        if len(found) != 1:
            names = ", ".join(found) or "none (what is no volume is named in the log)"
            raise ValueError(f"{path} must hold one DICOM series of images to be read as one, it holds: {names}")
        return found[0]


class DicomFolder:
    """
    The DICOM files of a folder, without the folders in it. Their headers are read when it is made, each once.

    A damaged file belongs to the series when there is only one, so that reading this fails, instead of giving a
    volume that lacks a slice; beside several series it is one of its own, which cannot be read either. Damaged are
    also, among DICOM files, a ``.dcm`` or ``.ima`` that is not DICOM, and files too short to be DICOM that are
    named like the others or without an extension. Copies of a file are left out, with a line in the log.

    Args:
        folder: the folder.

    Raises:
        FileNotFoundError: when there is no such folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"no file or folder {self.folder}")
        self.headers, self._others = read_headers(self.folder)

    def knows(self, file: Path) -> bool:
        """Whether a file of the folder is one of its images, or was left out here with a line in the log."""
        return file in self.headers or file in self._others

    def series(self) -> list[DicomSeries]:
        """
        List the series of images. What is no volume of the patient is left out, with one line in the log: reports,
        DICOMDIR, segmentations, dose, scout images, pictures of a screen, and, beside a volume, colors and single
        pictures that do not say where they lie. A file with several frames is a series of its own.

        Returns:
            the series, by number and description.
        """
        images = self._images()
        uids = sorted({uid for header in images.values() if (uid := _uid(header)) is not None})
        found = [DicomSeries(f"{self.folder}#series={uid}", _files_of(uid, images)) for uid in uids]
        in_series = {path for series in found for path in series.files}
        found += [DicomSeries(str(path), {path: images[path]}) for path in images if path not in in_series]
        others = {series: reason for series in found if (reason := series.why_no_volume())}
        if len(others) < len(found):  # what is alone is for reading it to complain of
            found = [series for series in found if series not in others]
        else:
            others = {}
        reasons = Counter(filter(None, map(why_not, self.headers.values())))
        for series, reason in others.items():
            reasons[reason] += len(series.files)
        if reasons:
            text = "; ".join(f"{count} {reason}" for reason, count in reasons.items())
            logger.info("%s: left out %d DICOM files that are no volume: %s", self.folder, reasons.total(), text)
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

    def _images(self) -> Headers:
        return {path: header for path, header in self.headers.items() if not why_not(header)}


def _files_of(uid: str, headers: Headers) -> Headers:
    """The slices of a series, with damaged files when there is no other that they could be of."""
    alone = len({_uid(header) for header in headers.values()} - {None}) == 1
    return {path: header for path, header in headers.items() if _uid(header) == uid or (alone and header is None)}


def _uid(header: pydicom.Dataset | None) -> str | None:
    """Which series of single slices an image belongs to; None for what is no such image."""
    if header is None or "Rows" not in header or int(header.get("NumberOfFrames") or 1) > 1:
        return None
    return str(header.get("SeriesInstanceUID", ""))
