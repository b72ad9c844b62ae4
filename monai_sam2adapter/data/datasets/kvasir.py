# SPDX-License-Identifier: Apache-2.0
"""The Kvasir-SEG data set (photographs of polyps in colonoscopy)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from monai.utils import look_up_option

from ...utils.logs import escaping_logger
from .check import check_images_and_masks
from .folders import Layout, pair_images, shorten
from .report import DatasetReport
from .split import SPLIT_PARTS, check_fold, name_parts, order_by_hash, read_folds

__all__ = ["KVASIR_CLASS_NAMES", "check_kvasir", "kvasir_datalist"]

logger = escaping_logger(__name__)

#: what the classes 0 and 1 stand for; in the files of the masks polyps are white
KVASIR_CLASS_NAMES = ("background", "polyp")

_LAYOUT = Layout(
    "Kvasir-SEG", "kvasir", "a folder 'images' and a folder 'masks' with files of the same names", "images"
)
# the archive's folder, and the archive as it unpacks
_ROOTS = (".", "Kvasir-SEG")
_LISTS = ("train.txt", "val.txt")
_NUM_FOLDS = 5
# of all images for testing, and of the others for validation: 120 and 88 of 1000
_TEST_SHARE = 0.12
_VAL_SHARE = 0.1


def kvasir_datalist(
    dataset_dir: str | os.PathLike[str],
    split: str,
    fold: int = 0,
    split_file: str | os.PathLike[str] | None = None,
) -> list[dict[str, str]]:
    """
    List the images of one part of Kvasir-SEG, as MONAI's datasets read them with ``ImageFileReader``.

    Source: D. Jha et al., "Kvasir-SEG: A Segmented Polyp Dataset", MMM 2020, arXiv:1911.07069 (data set). The masks
    are JPEG files: their values lie around 0 and 255, so they have to be cut in the middle.

    The five folds are by

    - ``train.txt`` and ``val.txt`` in the folder, one name a line, where they are: the 880 and 120 images that the
      authors published with ColonSegNet (Jha et al., IEEE Access 2021) and most papers take. The 120 are for testing,
      in each fold;
    - else the names alone: of the images, in the order of the SHA-256 of their names, the first 12 % (120 of 1000) are
      for testing in fold 0, the next 12 % in fold 1, and so on. They are the same on every machine, and when some
      images are missing, nearly all others stay in their part. They are not the authors'.

    Of the other images in that order the first 10 % (88 of 880) are for validation in fold 0, the next in fold 1, and
    so on, so that the images for testing have no part in choosing an epoch.

    Args:
        dataset_dir: folder with ``images`` and ``masks``, or the one in which the archive was unpacked.
        split: ``train``, ``val`` or ``test``.
        fold: which fold, 0 to 4, or of the split file. Defaults to 0.
        split_file: an own split with the names of images without extension, a JSON file as ``read_split`` takes it.
            Defaults to the five folds.

    Returns:
        one dictionary an image, sorted by name, with the keys ``image`` and ``label`` (paths) and ``case`` (the name
        without extension).

    Raises:
        FileNotFoundError: when the folder or the split file does not exist.
        ValueError: when ``split`` is none of the three, there is no such fold, the layout is another one, the folder
            holds no image of the part, images and masks do not match, one of the two lists is missing or names what
            the other one does, or there are fewer than 3 images and neither lists nor a split file.
    """
    part = look_up_option(split, SPLIT_PARTS)
    images, problems = _find_images(dataset_dir)
    _LAYOUT.require_complete(dataset_dir, problems)
    folds = _make_folds(dataset_dir, images) if split_file is None else read_folds(split_file)
    if split_file is None:
        for problem in _find_list_problems(dataset_dir, images):
            logger.warning(problem)
    where = f"split of {dataset_dir}" if split_file is None else f"split file {split_file}"
    check_fold(fold, len(folds), where)
    wanted = folds[fold][part]
    chosen = _LAYOUT.choose(images, wanted, dataset_dir, f"part {part!r} of the {where}")
    logger.info(f"Kvasir-SEG {part}: {len(chosen)} images of {len(wanted)}")
    return list(chosen.values())


def check_kvasir(
    dataset_dir: str | os.PathLike[str],
    split_file: str | os.PathLike[str] | None = None,
    progress: bool = True,
    ignore_label: int | None = None,
) -> DatasetReport:
    """
    Read every image and mask of Kvasir-SEG, count what is there and find what is wrong.

    Args:
        dataset_dir: as in ``kvasir_datalist``.
        split_file: as in ``kvasir_datalist``; all its folds are counted.
        progress: whether to show a progress bar. Defaults to True.
        ignore_label: value of the labels that does not count. Defaults to None: all count.

    Returns:
        the report.

    Raises:
        FileNotFoundError: when the folder or the split file does not exist.
        ValueError: when the folder is of another layout or holds no picture, or its lists or the split file are none.
    """
    images, problems = _find_images(dataset_dir)
    folds = _make_folds(dataset_dir, images) if split_file is None else read_folds(split_file)
    if split_file is None:
        problems += _find_list_problems(dataset_dir, images)
    report = DatasetReport(
        "Kvasir-SEG",
        str(dataset_dir),
        KVASIR_CLASS_NAMES,
        image_word="image",
        voxel_word="pixel",
        problems=problems,
        ignore_label=ignore_label,
    )
    check_images_and_masks(list(images.values()), name_parts(folds), report, colored=True, progress=progress)
    return report


def _find_images(dataset_dir: str | os.PathLike[str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """The items by their names, with an empty string in place of a path that is missing; the problems of the layout."""
    root = _find_root(dataset_dir)
    pairs, problems = pair_images(root / "images", root / "masks", str)
    if not pairs:
        raise ValueError(f"no picture in {root / 'images'}; expected PNG, JPEG, BMP or TIFF files")
    return {name: {**pair, "case": name} for name, pair in pairs.items()}, problems


def _find_root(dataset_dir: str | os.PathLike[str]) -> Path:
    folder = _LAYOUT.open(dataset_dir)
    for root in (folder / name for name in _ROOTS):
        if (root / "images").is_dir() and (root / "masks").is_dir():
            return root
    raise ValueError(f"{folder} is not laid out as Kvasir-SEG; expected {_LAYOUT.expected}")


def _make_folds(dataset_dir: str | os.PathLike[str], names: Iterable[str]) -> list[dict[str, list[str]]]:
    root = _find_root(dataset_dir)
    lists = _read_lists(root)
    ordered = order_by_hash(names)
    if not lists and len(ordered) < 3:
        raise ValueError(f"{root} has {len(ordered)} images, too few to split; give at least 3 or a split_file")
    folds = []
    for fold in range(_NUM_FOLDS):
        train, test = lists or _take_out(ordered, _TEST_SHARE, fold)
        train, val = _take_out(order_by_hash(train), _VAL_SHARE, fold)
        folds.append({"train": sorted(train), "val": sorted(val), "test": sorted(test)})
    return folds


def _find_list_problems(dataset_dir: str | os.PathLike[str], names: Iterable[str]) -> list[str]:
    """How the lists of the authors, where the folder has them, differ from the images."""
    root, there = _find_root(dataset_dir), set(names)
    lists = _read_lists(root)
    if not lists:
        return []
    problems = []
    for name, listed in zip(_LISTS, lists, strict=True):
        absent = sorted(set(listed) - there)
        if absent:
            problems.append(f"{root / name}: names {len(absent)} that are not in {root / 'images'}: {shorten(absent)}")
    unlisted = sorted(there - {name for listed in lists for name in listed})
    if unlisted:
        problems.append(
            f"{root / _LISTS[0]}: neither it nor {_LISTS[1]} names {len(unlisted)} of the images, which are in no "
            f"part: {shorten(unlisted)}"
        )
    return problems


def _read_lists(root: Path) -> list[list[str]]:
    """The names in both lists; nothing where there are none."""
    lists = [root / name for name in _LISTS]
    if not any(path.is_file() for path in lists):
        return []
    missing = [path for path in lists if not path.is_file()]
    if missing:
        raise ValueError(f"{missing[0]} is missing; expected {' and '.join(_LISTS)}, or none of them")
    train, test = (
        [_without_extension(line.strip()) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        for path in lists
    )
    both = sorted(set(train) & set(test))
    if both:
        raise ValueError(f"{lists[0]} and {lists[1].name} both name {both[0]}, and {len(both) - 1} more; mend them")
    return [train, test]


def _without_extension(name: str) -> str:
    return Path(name).stem if name.lower().endswith((".jpg", ".jpeg", ".png")) else name


def _take_out(names: list[str], share: float, fold: int) -> list[list[str]]:
    """The names without the fold's share, and that share: at least one name. Folds of few images may meet."""
    number = max(1, round(share * len(names)))
    start = fold * number % len(names)
    rotated = names[start:] + names[:start]
    return [rotated[number:], rotated[:number]]
