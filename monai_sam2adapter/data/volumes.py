# SPDX-License-Identifier: Apache-2.0
"""Finding the volumes to segment: a file, a folder or a list."""

from __future__ import annotations

import ast
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["VOLUME_EXTENSIONS", "find_volumes"]

#: extensions of the volume files that can be read
VOLUME_EXTENSIONS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")

# in a folder: masks and whole cine series, as the archives of data sets name them
_SKIPPED_ENDINGS = ("_gt", "_seg", "_4d")


def find_volumes(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str] | Mapping[str, Any]],
) -> list[dict[str, str]]:
    """
    List the volumes that a user points at, for inference.

    A folder is searched with all folders in it; files whose names start with a dot or end in ``_gt``, ``_seg`` or
    ``_4d`` before the extension are left out there. Files that are named one by one are always taken.

    Args:
        source: a file, a folder, or a list of files, folders and dictionaries with the key ``image`` (and ``case``,
            to name it); a string that reads as such a list, as on a command line, is one too.

    Returns:
        one dictionary a volume: ``image`` (its path) and ``case``, a name that is unique in the list and fit for a
        file: the file's name without the extension, with its folders and extension in front and behind where that is
        needed; characters other than letters, digits, "_" and "-" become "_".

    Raises:
        FileNotFoundError: when a path does not exist.
        ValueError: when there is no volume, a file is of another kind, or two volumes cannot be told apart.
    """
    entries = _as_list(source)
    paths: list[Path] = []
    names: list[str] = []
    for entry in entries:
        found, name = _resolve(entry)
        paths += found
        names += [name] * len(found)
    if not paths:
        raise ValueError(f"no volume in {source!r}; expected files that end in {', '.join(VOLUME_EXTENSIONS)}")
    cases = _unique_cases(paths, names)
    return [{"image": str(path), "case": case} for path, case in zip(paths, cases, strict=True)]


def _as_list(source: Any) -> Iterable[Any]:
    if isinstance(source, str) and source.lstrip().startswith("[") and not Path(source).exists():
        try:
            source = ast.literal_eval(source.strip())
        except (ValueError, SyntaxError) as error:
            raise ValueError(f"{source!r} starts like a list but does not read as one: {error}") from error
    if isinstance(source, (list, tuple)):
        return source
    return [source]


def _resolve(entry: Any) -> tuple[list[Path], str]:
    """The files of one entry, and the name that the user gave it (empty for none)."""
    if isinstance(entry, Mapping):
        if "image" not in entry:
            raise ValueError(f"no key 'image' in {dict(entry)}; expected the path of a volume there")
        return [_check_file(Path(entry["image"]).expanduser())], str(entry.get("case", ""))
    if not isinstance(entry, (str, os.PathLike)):
        raise ValueError(f"cannot take {entry!r} for a volume; expected a path or a dictionary with the key 'image'")
    path = Path(entry).expanduser()
    if path.is_dir():
        return _search(path), ""
    return [_check_file(path)], ""


def _search(folder: Path) -> list[Path]:
    found = []
    for path in sorted(folder.rglob("*")):
        extension = _extension(path)
        stem = _stem(path)
        if extension and path.is_file() and not stem.startswith(".") and not stem.lower().endswith(_SKIPPED_ENDINGS):
            found.append(path)
    if not found:
        raise ValueError(
            f"no volume in the folder {folder}: expected files that end in {', '.join(VOLUME_EXTENSIONS)} "
            f"(those named *_gt, *_seg and *_4d are left out)"
        )
    return found


def _check_file(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"no file or folder {path}")
    if not _extension(path):
        raise ValueError(f"cannot read {path}: expected a file that ends in {', '.join(VOLUME_EXTENSIONS)}; convert it")
    return path


def _extension(path: Path) -> str:
    return next((extension for extension in VOLUME_EXTENSIONS if path.name.lower().endswith(extension)), "")


def _stem(path: Path) -> str:
    return path.name[: len(path.name) - len(_extension(path))]


def _as_file_name(text: str) -> str:
    """Results are named by the case, and what follows a dot would be taken for an extension there."""
    return re.sub(r"[^\w-]+", "_", text)


def _unique_cases(paths: Sequence[Path], names: Sequence[str]) -> list[str]:
    """The given names, and for the others the shortest of three forms that no other volume has."""
    absolute = [path.absolute() for path in paths]
    common = os.path.commonpath([path.parent for path in absolute])
    folders = [path.parent.relative_to(common) for path in absolute]
    with_folder = [_as_file_name(str(folder / _stem(path))) for folder, path in zip(folders, paths, strict=True)]
    relative = [_as_file_name(str(folder / path.name)) for folder, path in zip(folders, paths, strict=True)]
    cases = [_as_file_name(name or _stem(path)) for name, path in zip(names, paths, strict=True)]
    for longer in (with_folder, relative):
        counts = Counter(cases)
        cases = [longer[i] if counts[case] > 1 and not names[i] else case for i, case in enumerate(cases)]
    counts = Counter(cases)
    for path, case in zip(paths, cases, strict=True):
        if counts[case] > 1:
            raise ValueError(
                f"{path} is there twice, or gets the name {case!r} like another volume; name each volume once, "
                f"or give dictionaries with 'image' and 'case'"
            )
    return cases
