# SPDX-License-Identifier: Apache-2.0
"""``phantom`` and ``check`` for every data set."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import pytest

from monai_sam2adapter.__main__ import main

SMALL = {
    "acdc": ["--train", "1", "--val", "1", "--test", "1"],
    "isbi2012": ["--slices", "5"],
    "kvasir": ["--images", "3"],
    "pairs": ["--train", "2", "--val", "1", "--test", "1"],
    "synapse": ["--train", "1", "--val", "1", "--test", "1"],
}


@pytest.mark.parametrize("name", SMALL)
def test_phantoms_are_written_once_and_pass_the_check(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / name
    assert main(["phantom", name, str(folder), "--seed", "3", *SMALL[name]]) == 0
    assert main(["check", name, str(folder)]) == 0
    assert main(["phantom", name, str(folder), "--seed", "3", *SMALL[name]]) == 0
    out = capsys.readouterr().out
    assert f"{folder}: phantoms written" in out
    assert "no problems found" in out
    assert f"{folder}: the same phantoms are there already" in out


def test_a_frame_that_is_there_twice_is_a_problem_and_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["phantom", "acdc", str(tmp_path), *SMALL["acdc"]])
    path = tmp_path / "training" / "patient001" / "patient001_frame01.nii.gz"
    nib.save(nib.load(path), path.with_suffix(""))
    assert main(["check", "acdc", str(tmp_path)]) == 1
    assert f"1 problems:\n  {path}: is there twice" in capsys.readouterr().out


def test_options_of_another_data_set_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["phantom", "kvasir", str(tmp_path), "--slices", "5"])
    assert "unrecognized arguments: --slices 5" in capsys.readouterr().err


def test_pairs_have_the_layout_of_their_task_or_another_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["phantom", "pairs", str(tmp_path), "--task", "remote_sensing", "--train", "2", "--test", "1"])
    assert main(["check", "pairs", str(tmp_path), "--task", "remote_sensing"]) == 0
    assert main(["check", "pairs", str(tmp_path), "--folders", '{"new": ["train-images", "train-labels"]}']) == 0
    assert re.search(r"^new +2$", capsys.readouterr().out, re.MULTILINE)
    assert main(["check", "pairs", str(tmp_path)]) == 2
    assert "DIS-TR/im: there is no such folder" in capsys.readouterr().err
