# SPDX-License-Identifier: Apache-2.0
"""The ISBI 2012 data set (electron microscopy of a fly's nerve cord, cells and membranes)."""

from __future__ import annotations

import os
import re
from pathlib import Path

from monai.utils import look_up_option

from ...utils.logs import escaping_logger
from .check import check_images_and_masks
from .folders import Layout, count_pages, pair_images
from .report import DatasetReport
from .split import SPLIT_PARTS, name_parts, read_folds, read_split

__all__ = ["ISBI2012_CLASS_NAMES", "check_isbi2012", "isbi2012_datalist"]

logger = escaping_logger(__name__)

#: what the classes 0 and 1 stand for; in the files of the labels cells are white (255) and membranes black (0)
ISBI2012_CLASS_NAMES = ("cell", "membrane")

_LAYOUT = Layout(
    "ISBI 2012",
    "isbi2012",
    "train-volume.tif with train-labels.tif, or a folder 'images' with a folder 'labels', one file a slice",
    "slices",
)
_NUM_SLICES = 30
_ARCHIVE = ("train-volume", "train-labels")
_IMAGE_FOLDERS = ("images", "image")
_LABEL_FOLDERS = ("labels", "label", "masks", "mask")


def isbi2012_datalist(
    dataset_dir: str | os.PathLike[str],
    split: str,
    fold: int = 0,
    split_file: str | os.PathLike[str] | None = None,
) -> list[dict[str, str]]:
    """
    List the slices of one part of ISBI 2012, as MONAI's datasets read them with ``ImageFileReader``.

    Either of two layouts is read, in the folder or in a folder ``train`` in it:

    - the official archive, ``train-volume.tif`` and ``train-labels.tif`` of 30 pages; ``test-volume.tif``, which has
      no labels, is left out;
    - one file a slice (PNG, JPEG, BMP or TIFF) in ``images`` (or ``image``) and in ``labels`` (or ``label``,
      ``masks``, ``mask``). The last number in the name is that of the slice, counted from 1 where there is a 30 and no
      0, and from 0 otherwise.

    Fold ``k`` of the split in the package tests on the slices whose number, from 0 on, leaves ``k`` when divided by 3.
    Of the 20 others, in order, the 3rd, 8th, 13th and 18th validate, and 16 train. (In the code of G-SAM,
    arXiv:2408.12406, the test slices are the validation slices too, so that the epoch is chosen by the test.) The
    slices are neighbors in one block of tissue: the parts are less independent than other patients would be.

    Source: I. Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation algorithms for connectomics",
    Frontiers in Neuroanatomy 2015 (data set).

    Args:
        dataset_dir: folder of the data set.
        split: ``train``, ``val`` or ``test``.
        fold: which fold, 0 to 2. Defaults to 0.
        split_file: an own split with names such as ``slice_07``, a JSON file as ``read_split`` takes it. Defaults to
            the one in the package.

    Returns:
        one dictionary a slice, in order, with the keys ``image`` and ``label`` (paths, ending in ``#page=7`` for a page
        of the archive) and ``case`` (``slice_07``, from 0 on). In the labels, membranes are black.

    Raises:
        FileNotFoundError: when the folder or the split file does not exist.
        ValueError: when ``split`` is none of the three, there is no such fold, the layout is another one, the folder
            holds no slice of the part, or images and labels do not match.
    """
    part = look_up_option(split, SPLIT_PARTS)
    file = "isbi2012" if split_file is None else split_file
    wanted = read_split(file, fold)[part]
    slices, problems = _find_slices(dataset_dir)
    _LAYOUT.require_complete(dataset_dir, problems)
    where = f"part {part!r} of fold {fold} of the split {file}"
    chosen = _LAYOUT.choose({item["case"]: item for item in slices}, wanted, dataset_dir, where)
    logger.info(f"ISBI 2012 {part}, fold {fold}: {len(chosen)} slices of {len(wanted)}")
    return list(chosen.values())


def check_isbi2012(
    dataset_dir: str | os.PathLike[str],
    split_file: str | os.PathLike[str] | None = None,
    progress: bool = True,
    ignore_label: int | None = None,
) -> DatasetReport:
    """
    Read every slice and label of ISBI 2012, count what is there and find what is wrong.

    Args:
        dataset_dir: as in ``isbi2012_datalist``.
        split_file: as in ``isbi2012_datalist``; all its folds are counted.
        progress: whether to show a progress bar. Defaults to True.
        ignore_label: value of the labels that does not count. Defaults to None: all count.

    Returns:
        the report.

    Raises:
        FileNotFoundError: when the folder or the split file does not exist.
        ValueError: when the folder is of another layout or holds no picture, or the split file is none.
    """
    parts = name_parts(read_folds("isbi2012" if split_file is None else split_file))
    slices, problems = _find_slices(dataset_dir)
    report = DatasetReport(
        "ISBI 2012",
        str(dataset_dir),
        ISBI2012_CLASS_NAMES,
        image_word="slice",
        voxel_word="pixel",
        problems=problems,
        ignore_label=ignore_label,
    )
    check_images_and_masks(slices, parts, report, colored=False, bright_class=0, progress=progress)
    if split_file is None:
        names = set().union(*parts.values())
        report.problems += [
            f"{item['image'] or item['label']}: {item['case']} is in no part of the split in the package, which ends "
            f"at {max(names)}; is it numbered rightly?"
            for item in slices
            if item["case"] not in names
        ]
    return report


def _find_slices(dataset_dir: str | os.PathLike[str]) -> tuple[list[dict[str, str]], list[str]]:
    """The items, with an empty string in place of a path that is missing; one text for every problem of the layout."""
    root = _LAYOUT.open(dataset_dir)
    for folder in (root, root / "train"):
        volume, labels = (_first_there(folder, (f"{name}.tif", f"{name}.tiff")) for name in _ARCHIVE)
        if volume or labels:
            return _slices_of_archive(volume or folder / "train-volume.tif", labels or folder / "train-labels.tif")
        image_dir, label_dir = _first_there(folder, _IMAGE_FOLDERS), _first_there(folder, _LABEL_FOLDERS)
        if image_dir and label_dir:
            return _slices_of_folders(image_dir, label_dir)
    raise ValueError(f"{root} is not laid out as ISBI 2012; expected {_LAYOUT.expected}")


def _first_there(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).exists()), None)


def _slices_of_archive(volume: Path, labels: Path) -> tuple[list[dict[str, str]], list[str]]:
    problems: list[str] = []
    images, masks = (_count_pages(path, problems) for path in (volume, labels))
    if not problems and images != masks:
        problems.append(f"{labels}: has {masks} pages, {volume.name} {images}")
    slices = [
        {
            "image": f"{volume}#page={k}" if k < images else "",
            "label": f"{labels}#page={k}" if k < masks else "",
            "case": f"slice_{k:02d}",
        }
        for k in range(max(images, masks))
    ]
    return slices, problems


def _count_pages(path: Path, problems: list[str]) -> int:
    if not path.is_file():
        problems.append(f"{path}: is missing")
        return 0
    try:
        return count_pages(path)
    except ValueError as error:
        problems.append(f"{path}: {error}")
        return 0


def _slices_of_folders(image_dir: Path, label_dir: Path) -> tuple[list[dict[str, str]], list[str]]:
    pairs, problems = pair_images(image_dir, label_dir, _number)
    if not pairs and not problems:
        raise ValueError(f"no picture in {image_dir} and {label_dir}; expected PNG, JPEG, BMP or TIFF files")
    numbers = {int(key): pair for key, pair in pairs.items()}
    first = _first_number(set(numbers), image_dir)
    return [{**numbers[k], "case": f"slice_{k - first:02d}"} for k in sorted(numbers)], problems


def _first_number(numbers: set[int], image_dir: Path) -> int:
    """Which number the first slice of the block has; slices may be missing, so that it does not show in all folders."""
    if 0 in numbers:
        logger.info(f"the slices in {image_dir} count from 0")
        return 0
    if max(numbers, default=0) == _NUM_SLICES:
        logger.info(f"the slices in {image_dir} count from 1")
        return 1
    logger.warning(
        f"{image_dir} has neither a slice 0 nor a last slice {_NUM_SLICES}: its slices are taken to count from 0, as "
        f"if the first were missing; where they count from 1, rename them, or they fall in other parts of the split"
    )
    return 0


def _number(stem: str) -> str:
    """The last number in a name, without zeros in front."""
    numbers = re.findall(r"\d+", stem)
    return str(int(numbers[-1])) if numbers else ""
