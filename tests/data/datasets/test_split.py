# SPDX-License-Identifier: Apache-2.0
"""Split files: the one of ACDC, and what is wrong with others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_sam2adapter.data import name_parts, packaged_split_file, read_folds, read_split


def test_acdc_split_takes_14_2_and_4_of_each_block_of_20() -> None:
    split = read_split(packaged_split_file("acdc"))
    assert list(split) == ["train", "val", "test"]
    for part, (first, last) in {"train": (1, 14), "val": (15, 16), "test": (17, 20)}.items():
        expected = [f"patient{block + k:03d}" for block in range(0, 100, 20) for k in range(first, last + 1)]
        assert split[part] == expected


def test_five_folds_of_acdc_test_every_patient_once_and_begin_with_the_default() -> None:
    folds = read_folds("acdc_5folds")
    assert {part: sorted(names) for part, names in folds[0].items()} == read_split("acdc")
    assert sorted(name for fold in folds for name in fold["test"]) == [f"patient{k:03d}" for k in range(1, 101)]
    for fold in folds:
        assert len(set().union(*fold.values())) == 100
        for part, number in {"train": 14, "val": 2, "test": 4}.items():
            blocks = [(int(name[-3:]) - 1) // 20 for name in fold[part]]
            assert [blocks.count(block) for block in range(5)] == [number] * 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("{", "is not JSON", id="broken"),
        pytest.param('["patient001"]', "is not a split: expected an object", id="a-list"),
        pytest.param('{"train": [], "val": []}', "lists of names train, val, test", id="a-part-missing"),
        pytest.param('{"train": [1], "val": [], "test": []}', "is not a split", id="a-number"),
        pytest.param('{"folds": []}', "'folds' must be a list of at least one split", id="no-folds"),
        pytest.param('{"folds": {"train": []}}', "'folds' must be a list", id="folds-no-list"),
        pytest.param('{"folds": [{"train": ["a"], "val": []}]}', "is not a split", id="fold-a-part-missing"),
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


FOLDS = [{"train": ["b"], "val": [], "test": ["a"]}, {"train": ["a"], "val": [], "test": ["b"]}]


def test_a_fold_is_chosen_and_one_split_is_fold_0(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"description": "mine", "folds": FOLDS}))
    assert [read_split(path, k) for k in range(2)] == read_folds(path) == FOLDS
    path.write_text(json.dumps(FOLDS[1]))
    assert read_split(path, 0) == FOLDS[1]
    assert read_folds(path) == [FOLDS[1]]


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        pytest.param(2, r"there is no fold 2: split file .*own\.json has 2 folds, 0 to 1", id="too-large"),
        pytest.param(-1, "there is no fold -1", id="negative"),
        pytest.param("1", "fold is '1', expected an integer; split file .* has 2 folds", id="text"),
        pytest.param(True, "fold is True, expected an integer", id="bool"),
    ],
)
def test_a_wrong_fold_is_an_error_that_says_how_many_there_are(tmp_path: Path, fold: object, message: str) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"folds": FOLDS}))
    with pytest.raises(ValueError, match=message):
        read_split(path, fold)  # type: ignore[arg-type]


def test_a_file_of_one_split_has_fold_0_alone() -> None:
    with pytest.raises(ValueError, match=r"there is no fold 1: split file .*acdc\.json has 1 fold, number 0"):
        read_split(packaged_split_file("acdc"), 1)


def test_parts_are_named_by_their_fold_where_there_are_several() -> None:
    assert name_parts(FOLDS[:1]) == {"train": {"b"}, "val": set(), "test": {"a"}}
    assert list(name_parts(FOLDS)) == [f"fold {k} {part}" for k in range(2) for part in ("train", "val", "test")]


def test_folds_of_isbi_test_every_slice_once() -> None:
    folds = read_folds(packaged_split_file("isbi2012"))
    everything = [f"slice_{k:02d}" for k in range(30)]
    for k, fold in enumerate(folds):
        assert fold["test"] == everything[k::3]
        assert fold["val"] == [name for name in everything if name not in fold["test"]][2::5]
        assert sorted(fold["train"] + fold["val"] + fold["test"]) == everything
    assert len(folds) == 3


def test_a_missing_split_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no split file .*own\.json; give its path, or .*: acdc, acdc_5folds,"):
        read_split(tmp_path / "own.json")


def test_an_own_split_may_have_empty_parts_and_a_description(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"description": "mine", "train": ["b", "a"], "val": [], "test": ["c"]}))
    assert read_split(path) == {"train": ["b", "a"], "val": [], "test": ["c"]}


@pytest.mark.parametrize(("part", "said"), [("train", "fits them best"), ("test", "too good")])
def test_a_published_protocol_may_validate_on_another_part(
    part: str, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "split.json"
    file.write_text(json.dumps({"train": ["a", "b"], "val": part, "test": ["c"]}), encoding="utf-8")
    split = read_split(file)
    assert split["val"] == split[part]
    assert said in caplog.text


@pytest.mark.parametrize("name", ["synapse_transunet", "isbi2012_gsam"])
def test_published_splits_cover_the_cases_of_ours(name: str) -> None:
    ours, published = (read_folds(packaged_split_file(file)) for file in (name.split("_")[0], name))
    for own, theirs in zip(ours, published, strict=False):
        assert set(theirs["test"]) == set(own["test"])
        assert set(theirs["train"]) == set(own["train"]) | set(own["val"])
