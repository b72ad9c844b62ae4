# SPDX-License-Identifier: Apache-2.0
"""What the data sets share: finding their files, and saying what is wrong with their folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..readers import ImageFileReader, open_picture
from .label_names import image_name, naming_hint

__all__ = ["Layout", "count_pages", "pair_images", "shorten", "twice_problems"]


@dataclass(frozen=True)
class Layout:
    """
    How the folder of a data set looks, for messages.

    Args:
        name: the data set, or its task.
        command: what ``python -m monai_sam2adapter check`` takes before the folder.
        expected: files and folders that must be there.
        things: what its cases are called, in the plural.
        options: what the command takes behind the folder. Defaults to nothing.
    """

    name: str
    command: str
    expected: str
    things: str
    options: str = ""

    def open(self, dataset_dir: str | os.PathLike[str]) -> Path:
        """The folder; a FileNotFoundError where there is none."""
        root = Path(dataset_dir).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(f"no folder {root}; expected that of {self.name}, with {self.expected}")
        return root

    def choose(
        self, found: Mapping[str, Any], wanted: Collection[str], dataset_dir: str | os.PathLike[str], part: str
    ) -> dict[str, Any]:
        """What is found of a part; a ValueError, with the text ``part`` that says which, where that is nothing."""
        chosen = {name: case for name, case in found.items() if name in wanted}
        if not chosen:
            raise ValueError(
                f"none of the {len(found)} {self.things} in {dataset_dir} ({shorten(found)}) is in the {part}, which "
                f"has {len(wanted)}; add {self.things} or give an own split_file"
            )
        return chosen

    def require_complete(self, dataset_dir: str | os.PathLike[str], problems: Sequence[str]) -> None:
        """A ValueError where there is a problem."""
        if problems:
            raise ValueError(
                f"{dataset_dir} is not a complete folder of {self.name}, expected {self.expected}: "
                f"{shorten(problems)}; `python -m monai_sam2adapter check {self.command} {dataset_dir}{self.options}` "
                f"lists every problem"
            )


def shorten(texts: Iterable[str], limit: int = 3) -> str:
    """The first of some texts, and how many more there are."""
    texts = list(texts)
    return "; ".join(texts[:limit]) + (f"; and {len(texts) - limit} more" if len(texts) > limit else "")


def twice_problems(*paths: str) -> list[str]:
    """One text for every unpacked file (.nii) that is there packed (.nii.gz) too."""
    return [
        f"{path}.gz: is there twice, also as {path}; keep one of them"
        for path in paths
        if path.endswith(".nii") and Path(f"{path}.gz").is_file()
    ]


def pair_images(
    image_dir: Path, label_dir: Path, key_of: Callable[[str], str], label_pattern: str | None = None
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """
    Match the pictures of one folder with those of another; files that are no pictures are left out.

    Args:
        image_dir: folder of the images.
        label_dir: folder of the masks.
        key_of: turns a file's name without extension into what an image and its mask have in common, empty if it has
            no such.
        label_pattern: what masks are called, with ``*`` in place of the image's name. Defaults to None: the same, and
            the user cannot choose.

    Returns:
        for every key, sorted, the paths ``image`` and ``label``, empty where the file is missing; and one text for
        every file without a partner or a key, with several pages, or beside another of the same key.
    """
    pairs: dict[str, dict[str, str]] = {}
    problems = []
    names: dict[str, set[str]] = {"image": set(), "label": set()}
    for role, folder in (("image", image_dir), ("label", label_dir)):
        for path in _pictures(folder):
            names[role].add(path.stem)
            key = key_of(path.stem if role == "image" else image_name(path.stem, label_pattern or "*"))
            pair = pairs.setdefault(key, {"image": "", "label": ""}) if key else {}
            if not key:
                how = f"is not named {label_pattern!r}" if label_pattern else "has no number in its name"
                problems.append(f"{path}: {how}, by which images and masks are matched")
            elif pair[role]:
                problems.append(f"{path}: is there twice, also as {pair[role]}; keep one of them")
            else:
                pair[role] = str(path)
            problems += _page_problems(path)
    hint = naming_hint(names["image"], names["label"], label_pattern) if label_pattern else ""
    if hint and not any(all(pair.values()) for pair in pairs.values()):
        return dict(sorted(pairs.items())), [f"{label_dir}: {hint}"]
    for pair in pairs.values():
        if not pair["label"]:
            problems.append(f"{pair['image']}: its mask in {label_dir} is missing")
        if not pair["image"]:
            problems.append(f"{pair['label']}: a mask without its image in {image_dir}")
    return dict(sorted(pairs.items())), problems


def count_pages(path: Path) -> int:
    """
    Args:
        path: a TIFF file.

    Returns:
        how many pages it has.

    Raises:
        ValueError: when it cannot be read.
    """
    try:
        with open_picture(path) as image:
            return getattr(image, "n_frames", 1)
    # a damaged file makes Pillow raise whatever it stumbles over
    except Exception as error:
        raise ValueError(f"cannot be read ({path.stat().st_size} bytes): {error}") from error


def _pictures(folder: Path) -> list[Path]:
    reader = ImageFileReader()
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and not path.name.startswith(".") and reader.verify_suffix(path)
    )


def _page_problems(path: Path) -> list[str]:
    if path.suffix.lower() not in (".tif", ".tiff"):
        return []
    try:
        pages = count_pages(path)
    except ValueError as error:
        return [f"{path}: {error}"]
    return [f"{path}: is a stack of {pages} pages, expected one; save each as a file"] if pages > 1 else []
