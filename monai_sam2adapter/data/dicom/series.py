# SPDX-License-Identifier: Apache-2.0
"""DICOM series in folders: reading each header once, and telling the series apart."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydicom

from ...utils.logs import escaping_logger
from ..folder_search import FolderSearch, shorten
from .geometry import DicomGeometry
from .headers import Headers, find_copies, read_header, read_headers
from .no_volume import why_no_volume, why_not
from .values import require_one_meaning, value_notes, value_problem

__all__ = ["DicomFolder", "DicomSeries", "find_series"]

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
    def folder(self) -> Path:
        """The folder of its files; of files in several, the deepest that holds them all."""
        return Path(os.path.commonpath({file.parent for file in self.headers}))

    @property
    def is_joined(self) -> bool:
        """Whether its files lie in several folders."""
        return len({file.parent for file in self.headers}) > 1

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
        headers, names = [], [file.relative_to(self.folder).as_posix() for file in self.files]
        for name, header in zip(names, self.headers.values(), strict=True):
            if header is None or "Rows" not in header:
                raise ValueError(f"{name} is damaged: it has no image that can be read; get it again")
            problem = value_problem(header)
            if problem:
                raise ValueError(f"{problem} (file {name})")
            headers.append(header)
        try:
            require_one_meaning(headers, names)
            return DicomGeometry.of(headers, names)
        except ValueError as error:
            if not self.is_joined:
                raise
            places = shorten(sorted({file.parent.relative_to(self.folder).as_posix() for file in self.files}))
            raise ValueError(
                f"{error}; its files lie in the folders {places}; give each by itself if they are volumes"
            ) from error

    @classmethod
    def open(cls, address: str | os.PathLike[str], read: Callable[[Path], DicomFolder] | None = None) -> DicomSeries:
        """
        Args:
            address: ``FOLDER#series=UID``, a folder with one series, a file, or a series, which is returned as it is.
                Of a series that goes on in folders below, these files belong to it; a folder without any stands for the
                one below it. Scout images are taken when they are all that has the UID, since they were asked for.
            read: what reads a folder. Defaults to :py:class:`DicomFolder`.

        Returns:
            the series, its pixels not read yet.

        Raises:
            FileNotFoundError: when the folder or file does not exist, or has no such series.
            ValueError: when the folder holds several series, or the file is not DICOM.
        """
        if isinstance(address, DicomSeries):
            return address
        match = _ADDRESS.fullmatch(str(address))
        path = Path(match["folder"] if match else address)
        if match is None and path.is_file():
            return cls(str(path), {path: read_header(path)})
        folders = [(read or DicomFolder)(place) for place in FolderSearch(path).folders or [path]]
        if match:
            return _pick(match["uid"], folders)
        found = find_series(folders)
        found = [series for series in found if any(file.parent == path for file in series.files)] or found
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
        Returns:
            its series of images, as :py:func:`find_series` finds them.
        """
        return find_series([self])

    def parts(self) -> list[tuple[str | None, Headers]]:
        """SeriesInstanceUID (may be empty) and slices of each series of single slices, None and file of each other."""
        images = self.images()
        uids = sorted({uid for header in images.values() if (uid := _uid(header)) is not None})
        found: list[tuple[str | None, Headers]] = [(uid, _files_of(uid, images)) for uid in uids]
        in_series = {path for _, headers in found for path in headers}
        return found + [(None, {path: images[path]}) for path in images if path not in in_series]

    def images(self) -> Headers:
        """Its files without those that are no image to be segmented."""
        return {path: header for path, header in self.headers.items() if not why_not(header)}


def find_series(folders: Sequence[DicomFolder], beside: bool = False) -> list[DicomSeries]:
    """
    List the series of images of folders, of which one that lies in several is one volume. What is no volume of the
    patient is left out, with one line in the log: reports, DICOMDIR, segmentations, dose, scout images, pictures of a
    screen, and, beside a volume, colors and single pictures that do not say where they lie. A file with several frames
    is a series of its own.

    Args:
        folders: a folder and those below it.
        beside: whether there are volumes of other formats beside them. Defaults to False.

    Returns:
        the series, by number and description.
    """
    parts: dict[tuple[str, Path | None], list[Headers]] = {}
    found = []
    for folder in folders:
        for uid, headers in folder.parts():
            if uid is None:
                found.append(DicomSeries(str(next(iter(headers))), headers))
            else:  # what does not say of which series it is may be of another in each folder
                parts.setdefault((uid, None if uid else folder.folder), []).append(headers)
    found += [_join(uid, headers) for (uid, _), headers in parts.items()]
    others = {series: reason for series in found if (reason := series.why_no_volume())}
    if len(others) < len(found) or beside:  # what is alone is for reading it to complain of
        found = [series for series in found if series not in others]
    else:
        others = {}
    _log_others(folders, others)
    alone = Counter(series.folder for series in found)
    found = [
        DicomSeries(str(series.folder), series.headers)
        if alone[series.folder] == 1 and not series.is_joined
        else series
        for series in found
    ]
    return sorted(found, key=lambda series: (series.number.zfill(9), series.description, series))


def _pick(uid: str, folders: Sequence[DicomFolder]) -> DicomSeries:
    """The files of a series in a folder, the first, and those below it."""
    for kinds in (DicomFolder.images, lambda folder: folder.headers):
        parts = [_files_of(uid, headers) for folder in folders if uid in map(_uid, (headers := kinds(folder)).values())]
        if parts:
            return _join(uid, parts if uid else parts[:1], folders[0].folder)
    raise FileNotFoundError(f"no series {uid!r} in {folders[0].folder}")


def _join(uid: str, parts: Sequence[Headers], folder: Path | None = None) -> DicomSeries:
    """The series whose files lie in several folders, without copies in another folder."""
    headers = {path: header for part in parts for path, header in part.items()}
    if len(parts) > 1:
        copies = find_copies(headers, Path(os.path.commonpath({path.parent for path in headers})))
        headers = {path: header for path, header in headers.items() if path not in copies}
    series = DicomSeries("", headers)
    return DicomSeries(f"{folder or series.folder}#series={uid}", headers)


def _log_others(folders: Sequence[DicomFolder], others: Mapping[DicomSeries, str]) -> None:
    """Say in one line what is no volume, and of several folders where it lies."""
    files = [(why_not(header), path) for folder in folders for path, header in folder.headers.items()]
    files += [(reason, path) for series, reason in others.items() for path in series.files]
    places: dict[str, list[Path]] = {}
    for reason, path in files:
        if reason:
            places.setdefault(reason, []).append(path.parent)
    if not places:
        return
    root = folders[0].folder
    texts = []
    for reason, parents in places.items():
        names = shorten(sorted({parent.relative_to(root).as_posix() for parent in parents}))
        texts.append(f"{len(parents)} {reason}" + (f" ({names})" if len(folders) > 1 else ""))
    count = sum(map(len, places.values()))
    logger.info("%s: left out %d DICOM files that are no volume: %s", root, count, "; ".join(texts))


def _files_of(uid: str, headers: Headers) -> Headers:
    """The slices of a series, with damaged files when there is no other that they could be of."""
    alone = len({_uid(header) for header in headers.values()} - {None}) == 1
    return {path: header for path, header in headers.items() if _uid(header) == uid or (alone and header is None)}


def _uid(header: pydicom.Dataset | None) -> str | None:
    """Which series of single slices an image belongs to; None for what is no such image."""
    if header is None or "Rows" not in header or int(header.get("NumberOfFrames") or 1) > 1:
        return None
    return str(header.get("SeriesInstanceUID", ""))
