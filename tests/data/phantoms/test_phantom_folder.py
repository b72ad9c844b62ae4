# SPDX-License-Identifier: Apache-2.0
"""A folder of phantoms is written whole or not at all, known again, and never overwritten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from monai_sam2adapter.data import write_phantom_folder

REQUEST = {"data_set": "letters", "numbers": (1, 2)}


def write(folder: Path) -> None:
    (folder / "in").mkdir()
    (folder / "in" / "a.txt").write_text("a")
    (folder / "b.txt").write_text("b")


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("there", [True, False], ids=["empty-folder", "no-folder"])
def test_is_written_once(tmp_path: Path, there: bool) -> None:
    output = tmp_path / "deep" / "output"
    if there:
        output.mkdir(parents=True)
    assert write_phantom_folder(output, 0, REQUEST, write)
    assert files(tmp_path / "deep") == ["output/b.txt", "output/in/a.txt", "output/phantom.json"]
    before = os.stat(output / "b.txt").st_mtime_ns
    assert not write_phantom_folder(output, 0, REQUEST, write)
    assert os.stat(output / "b.txt").st_mtime_ns == before


def test_other_phantoms_are_refused(tmp_path: Path) -> None:
    write_phantom_folder(tmp_path, 0, REQUEST, write)
    for seed, request in ((1, REQUEST), (0, {**REQUEST, "numbers": (1, 3)})):
        with pytest.raises(ValueError, match=r"holds other phantoms \(see .*phantom\.json\)"):
            write_phantom_folder(tmp_path, seed, request, write)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write_phantom_folder(tmp_path, 0, REQUEST, write)
    (tmp_path / "in" / "a.txt").unlink()
    with pytest.raises(ValueError, match=r"in/a\.txt is missing in .*; delete that folder"):
        write_phantom_folder(tmp_path, 0, REQUEST, write)


def test_anything_else_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "scan.nii").touch()
    with pytest.raises(ValueError, match="is not empty and was not written as a phantom"):
        write_phantom_folder(tmp_path, 0, REQUEST, write)
    with pytest.raises(ValueError, match="is not empty and was not written as a phantom"):
        write_phantom_folder(tmp_path / "scan.nii", 0, REQUEST, write)
    assert files(tmp_path) == ["scan.nii"]


def test_a_broken_run_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        write(folder)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_phantom_folder(tmp_path / "output", 0, REQUEST, fail)
    assert files(tmp_path) == []
    assert write_phantom_folder(tmp_path / "output", 0, REQUEST, write)
