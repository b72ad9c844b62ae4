# SPDX-License-Identifier: Apache-2.0
"""The files of cases: which there are in a folder, what they are called, and of which kind they are."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..dicom import DicomSeries
from ..find_images import IMAGE_EXTENSIONS

__all__ = ["CHANNEL", "files_of", "kind_problem", "list_files", "make_case", "path_of", "split_name", "unique_names"]

CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
"""What nnU-Net calls the file of a channel, without extension."""


def files_of(entry: str | Sequence[str] | Mapping[str, str]) -> list[str]:
    """The files of an image, one or one a channel; or of labels, one or one a class."""
    return [entry] if isinstance(entry, str) else list(entry.values() if isinstance(entry, Mapping) else entry)


def make_case(name: str, files: Sequence[Path], label: Path | Sequence[Path]) -> dict[str, Any]:
    """A case as the datalists have it; of one channel ``image`` is no list, and of one file of labels ``label``."""
    image = [str(file) for file in files]
    labels = str(label) if isinstance(label, Path) else [str(file) for file in label]
    return {"image": image[0] if len(image) == 1 else image, "label": labels, "case": name}


def path_of(file: str | os.PathLike[str]) -> Path:
    """The file or folder of an image, which of a DICOM series is the folder that it lies in."""
    return Path(str(file).partition("#series=")[0])


def kind_problem(file: str, kind: str, is_label: bool) -> str:
    """Why a file is no image of a kind; empty when it is one, or is not there."""
    if file.lower().endswith(IMAGE_EXTENSIONS[kind]) or not path_of(file).exists():
        return ""
    if kind == "picture" or is_label:
        return f"is no {kind}"
    try:
        DicomSeries.open(file)
    except (OSError, ValueError) as error:
        return f"is no {kind}: {error}"
    return ""


def list_files(folder: Path, kind: str, notes: list[str]) -> list[Path]:
    """Files of a kind and, for volumes, folders, which may hold DICOM; sorted. What is left out is a note."""
    there = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    taken = [
        path
        for path in there
        if path.name.lower().endswith(IMAGE_EXTENSIONS[kind]) or (kind == "volume" and path.is_dir())
    ]
    others = [path.name for path in there if path not in taken]
    if others:
        names = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        notes.append(f"{len(others)} files or folders in {folder} are of another kind and are left out: {names}")
    return taken


def split_name(path: Path) -> tuple[str, str]:
    """Name and extension, of which ``.nii.gz`` is one; a folder and a series have none."""
    if "#series=" in path.name or path.is_dir():
        return path.name, ""
    extension = ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix
    return path.name[: len(path.name) - len(extension)], path.name[len(path.name) - len(extension) :]


def unique_names(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names that are given, else those of the files, with as many of their folders as it takes to be unique."""
    paths = []
    for entry in entries:
        files = files_of(entry["image"])
        stem = split_name(Path(files[0]))[0]
        match = CHANNEL.fullmatch(stem)
        paths.append(Path(files[0]).with_name(match["case"] if match and len(files) > 1 else stem))
    names: list[str] = []
    for depth in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        names = [re.sub(r"[^\w-]+", "_", "_".join(path.parts[-depth:])) for path in paths]
        if len(set(names)) == len(names):
            break
    return [str(entry.get("case") or name) for entry, name in zip(entries, names, strict=True)]
