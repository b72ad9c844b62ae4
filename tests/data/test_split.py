# SPDX-License-Identifier: Apache-2.0
"""Split files: the one of ACDC, and what is wrong with others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_sam2adapter.data import packaged_split_file, read_split


def test_acdc_split_takes_14_2_and_4_of_each_block_of_20() -> None:
    split = read_split(packaged_split_file("acdc"))
    assert list(split) == ["train", "val", "test"]
    for part, (first, last) in {"train": (1, 14), "val": (15, 16), "test": (17, 20)}.items():
        expected = [f"patient{block + k:03d}" for block in range(0, 100, 20) for k in range(first, last + 1)]
        assert split[part] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("{", "is not JSON", id="broken"),
        pytest.param('["patient001"]', "is not a split: expected an object", id="a-list"),
        pytest.param('{"train": [], "val": []}', "lists of names train, val, test", id="a-part-missing"),
        pytest.param('{"train": [1], "val": [], "test": []}', "is not a split", id="a-number"),
        pytest.param('{"train": ["a"], "val": ["a"], "test": []}', "names a more than once", id="overlap"),
        pytest.param('{"train": ["a", "a"], "val": [], "test": []}', "names a more than once", id="twice-in-a-part"),
    ],
)
def test_a_wrong_split_file_is_an_error_that_names_it(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_split(path)
    assert str(path) in str(error.value)


def test_a_missing_split_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no split file .*own\.json"):
        read_split(tmp_path / "own.json")


def test_an_own_split_may_have_empty_parts_and_a_description(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"description": "mine", "train": ["b", "a"], "val": [], "test": ["c"]}))
    assert read_split(path) == {"train": ["b", "a"], "val": [], "test": ["c"]}
