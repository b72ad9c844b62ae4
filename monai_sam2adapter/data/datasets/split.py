# SPDX-License-Identifier: Apache-2.0
"""Files that say which cases are for training, for validation and for testing."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...utils.logs import escaping_logger

__all__ = [
    "SPLIT_PARTS",
    "check_fold",
    "name_parts",
    "order_by_hash",
    "packaged_split_file",
    "read_folds",
    "read_split",
]

#: the parts of a split, in the order in which they are named everywhere
SPLIT_PARTS = ("train", "val", "test")

logger = escaping_logger(__name__)

_FOLDER = Path(__file__).parent / "splits"
_BORROWED = {
    "train": "Split %s validates on the training cases: the best epoch is the one that fits them best.",
    "test": "Split %s validates on the test cases: choosing an epoch by them makes the test result too good.",
}


def packaged_split_file(name: str) -> Path:
    """Path of a split that comes with the package: ``acdc``, ``synapse_transunet`` and others."""
    return _FOLDER / f"{name}.json"


def read_folds(path: str | os.PathLike[str]) -> list[dict[str, list[str]]]:
    """
    Read all folds of a split file in JSON.

    It holds one split, ``{"train": ["patient001", ...], "val": [...], "test": [...]}``, or several of them,
    ``{"folds": [{"train": ..., "val": ..., "test": ...}, ...]}``. Every part must be there, and may be empty; other
    keys, such as a description, are left out. ``"val": "train"`` or ``"val": "test"`` validates on that part, to follow
    published protocols that have no validation part; a warning says what it means.

    Args:
        path: the file, or the name of one that comes with the package, such as ``synapse_transunet``.

    Returns:
        for each fold, the names of each part, in the order of the file. One split is one fold.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is not of this form, or when a name is twice in a fold.
    """
    packaged = sorted(file.stem for file in _FOLDER.glob("*.json"))
    file = packaged_split_file(str(path)) if str(path) in packaged else Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"no split file {file}; give its path, or one of the package's: {', '.join(packaged)}")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"split file {file} is not JSON: {error}") from error
    folds = content["folds"] if isinstance(content, dict) and "folds" in content else [content]
    if not isinstance(folds, list) or not folds:
        raise ValueError(f"split file {file}: 'folds' must be a list of at least one split, got {str(folds)[:120]}")
    return [_take_parts(fold, file) for fold in folds]


def read_split(path: str | os.PathLike[str], fold: int = 0) -> dict[str, list[str]]:
    """
    Read one split from a JSON file, as ``read_folds`` takes it.

    Args:
        path: the file, or the name of one that comes with the package.
        fold: which of its folds, from 0 on. Defaults to 0, the only one of a file that holds one split.

    Returns:
        the names of each part, in the order of the file.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: as in ``read_folds``, and when there is no such fold.
    """
    folds = read_folds(path)
    check_fold(fold, len(folds), f"split file {path}")
    return folds[fold]


def check_fold(fold: int, number: int, what: str) -> None:
    """Raise a ValueError unless ``fold`` counts one of the ``number`` folds that ``what`` has."""
    # True would be fold 1, and "1" is what a quoted value on a command line becomes
    if isinstance(fold, bool) or not isinstance(fold, int):
        raise ValueError(f"fold is {fold!r}, expected an integer; {what} has {_folds(number)}")
    if not 0 <= fold < number:
        raise ValueError(f"there is no fold {fold}: {what} has {_folds(number)}; give one, or another split_file")


def name_parts(folds: Sequence[Mapping[str, Sequence[str]]]) -> dict[str, set[str]]:
    """
    Name the parts of all folds, for a table of what is in each.

    Args:
        folds: what ``read_folds`` returned.

    Returns:
        the names in each part: ``train``, ``val`` and ``test`` for one fold, ``fold 0 train`` and so on for several.
    """
    many = len(folds) > 1
    return {
        f"fold {k} {part}" if many else part: set(fold[part]) for k, fold in enumerate(folds) for part in SPLIT_PARTS
    }


def order_by_hash(names: Iterable[str]) -> list[str]:
    """Each name once, in an order that depends on the names alone, not on a random number generator's version."""
    return sorted(set(names), key=lambda name: hashlib.sha256(name.encode()).digest())


def _folds(number: int) -> str:
    return "1 fold, number 0" if number == 1 else f"{number} folds, 0 to {number - 1}"


def _take_parts(content: Any, file: Path) -> dict[str, list[str]]:
    borrowed = content.get("val") if isinstance(content, dict) else None
    own_parts = ("train", "test") if isinstance(borrowed, str) and borrowed in ("train", "test") else SPLIT_PARTS
    if not isinstance(content, dict) or not all(_is_list_of_names(content.get(part)) for part in own_parts):
        raise ValueError(
            f"split file {file} is not a split: expected an object with the lists of names "
            f"{', '.join(SPLIT_PARTS)} (a list may be empty), or with a list 'folds' of such objects, "
            f"got {str(content)[:120]}"
        )
    counts = Counter(name for part in own_parts for name in content[part])
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if repeated:
        raise ValueError(
            f"split file {file} names {', '.join(repeated[:5])} more than once ({len(repeated)} such names); "
            f"a case may be in one part only, or the parts would not be independent"
        )
    parts = {part: list(content[part]) for part in own_parts}
    if own_parts is not SPLIT_PARTS:
        logger.warning(_BORROWED[str(borrowed)], file)
        parts["val"] = list(parts[str(borrowed)])
    return {part: parts[part] for part in SPLIT_PARTS}


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
