# SPDX-License-Identifier: Apache-2.0
"""Folders of pictures and of their masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PIL import Image

from ..readers.pictures import ImageFileReader

__all__ = ["count_pages", "pair_images"]


def pair_images(
    image_dir: Path, label_dir: Path, key_of: Callable[[str], str]
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """
    Match the pictures of one folder with those of another; files that are no pictures are left out.

    Args:
        image_dir: folder of the images.
        label_dir: folder of the masks.
        key_of: turns a file's name without extension into what an image and its mask have in common, empty if it has
            no such.

    Returns:
        for every key, sorted, the paths ``image`` and ``label``, empty where the file is missing; and one text for
        every file without a partner or a key, with several pages, or beside another of the same key.
    """
    pairs: dict[str, dict[str, str]] = {}
    problems = []
    for role, folder in (("image", image_dir), ("label", label_dir)):
        for path in _pictures(folder):
            key = key_of(path.stem)
            pair = pairs.setdefault(key, {"image": "", "label": ""}) if key else {}
            if not key:
                problems.append(f"{path}: has no number in its name, by which images and masks are matched")
            elif pair[role]:
                problems.append(f"{path}: is there twice, also as {pair[role]}; keep one of them")
            else:
                pair[role] = str(path)
            problems += _page_problems(path)
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
        with Image.open(path, formats=["TIFF"]) as image:
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
