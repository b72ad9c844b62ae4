# SPDX-License-Identifier: Apache-2.0
"""Searching a folder for images: every file is found, or left out with a reason in the log."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path

from ..utils import escaping_logger

__all__ = ["PICTURE_FOLDER", "FolderSearch", "shorten"]

logger = escaping_logger(__name__)

_WORD = r"(labels?|lbls?|labelmaps?|masks?|segs?|segmentations?|gt|ground[ _-]?truths?|annotations?)"
# what files of labels are called: label0001, segmentation, x_gt, gt_x, CT-label, Segmentation.seg, x_annotation-1,
# x_seg (1); but label_free_01 is a scan
_LABELS = re.compile(rf"(.*[_.\s-])?{_WORD}([_-]?\d+)?(\s?\(\d+\))?|gt[_\s-].*", re.IGNORECASE)
# the same for folders: labelsTr, segmentations, train-labels, labelsTr_old, seg masks, predictions
_LABEL_FOLDER = re.compile(
    rf"({_WORD}|predictions?)([ _-]?(tr|ts|va|val|train|test|pred|predictions?|masks?|old|new|\d+))*"
    r"|.*[ _-](labels|masks|segmentations|annotations|predictions)",
    re.IGNORECASE,
)
# whole cine series, as the archives of data sets name them, and what inference has written
_RESULTS = re.compile(r".*[_-](4d|probabilities|uncertainty)", re.IGNORECASE)
PICTURE_FOLDER = "overlays"
_MOST_NAMES = 5
# reasons, of which those that the user may not expect are warnings
_HIDDEN = "hidden"
_NAMED = "named as labels, 4D series or results"
_OTHER = "of another kind"
_WARNINGS = _NOWHERE, _TWICE, _UNREADABLE = (
    "that are links to nothing",
    "that are links to folders which are searched already",
    "that cannot be read",
)


class FolderSearch:
    """
    The files and folders below a folder. Links to folders are followed, each folder once.

    Left out are hidden files and folders, and folders of labels and results by their names. :py:meth:`log` says so, in
    one line for each reason.

    Args:
        folder: where to search.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folders: list[Path] = []
        self.files: list[Path] = []
        self.left_out: dict[str, list[Path]] = {}
        self._seen: set[tuple[int, int]] = set()
        self._links: list[Path] = []
        self._visit(folder)
        above = folder.resolve().parents
        while self._links:  # behind what lies there itself, which has the better name
            link = self._links.pop(0)
            if link.resolve() in above:
                self.leave_out(link, _TWICE)
            else:
                self._visit(link)

    def leave_out(self, path: Path, reason: str = _OTHER) -> None:
        """Note that a file or folder is left out."""
        self.left_out.setdefault(reason, []).append(path)

    def take(self, path: Path, stem: str) -> bool:
        """Whether a file is an image by its name; where it is not, it is left out."""
        if _LABELS.fullmatch(stem) or _RESULTS.fullmatch(stem):
            self.leave_out(path, _NAMED)
            return False
        return True

    def log(self) -> None:
        """Say what is left out."""
        for reason, paths in self.left_out.items():
            level = logging.WARNING if reason in _WARNINGS else logging.INFO
            names = shorten(path.relative_to(self.folder).as_posix() for path in paths)
            logger.log(level, "%s: left out %d files or folders %s: %s", self.folder, len(paths), reason, names)

    def _visit(self, folder: Path) -> None:
        try:
            place = folder.stat()
            entries = sorted(folder.iterdir())
        except OSError as error:
            logger.debug("%s: %s", folder, error)
            self.leave_out(folder, _UNREADABLE)
            return
        if (place.st_dev, place.st_ino) in self._seen:
            self.leave_out(folder, _TWICE)
            return
        self._seen.add((place.st_dev, place.st_ino))
        self.folders.append(folder)
        for path in entries:
            try:
                self._sort_in(path)
            except PermissionError:
                self.leave_out(path, _UNREADABLE)

    def _sort_in(self, path: Path) -> None:
        if path.name.startswith("."):
            self.leave_out(path, _HIDDEN)
        elif path.is_dir():
            if path.name == PICTURE_FOLDER or _LABEL_FOLDER.fullmatch(path.name):
                self.leave_out(path, _NAMED)
            elif path.is_symlink():
                self._links.append(path)
            else:
                self._visit(path)
        elif path.is_file():
            self.files.append(path)
        else:
            self.leave_out(path, _NOWHERE)


def shorten(names: Iterable[str]) -> str:
    """The first few names, for a line of the log."""
    names = list(names)
    return ", ".join(names[:_MOST_NAMES]) + (", ..." if len(names) > _MOST_NAMES else "")
