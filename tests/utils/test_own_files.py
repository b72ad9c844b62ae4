# SPDX-License-Identifier: Apache-2.0
"""Only what a run has written is replaced unasked."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from monai_sam2adapter.utils import is_own, own_path, require_own

# all that Python takes for the end of a line, and what an escape is made of
AWKWARD = [f"a{char}b" for char in "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\\"] + ["a\\nb", "\\"]


def write(path: Path, text: str, overwrite: bool = False) -> None:
    with own_path(path, overwrite) as temporary:
        temporary.write_text(text)


@pytest.mark.parametrize("name", ["a.txt", "ä b.nii.gz", "a\udcff", "  x", "-rf", *AWKWARD])
def test_an_earlier_result_is_replaced_as_often_as_wanted(name: str, tmp_path: Path) -> None:
    for text in ("one", "two", "one", "three"):
        write(tmp_path / name, text)
        assert (tmp_path / name).read_text() == text
        assert is_own(tmp_path / name)
    require_own([tmp_path / name, tmp_path / "absent", tmp_path / "absent" / "b"])


def edit(path: Path) -> None:
    path.write_text("corrected by hand")


def edit_and_keep_time_and_size(path: Path) -> None:
    before = path.stat()
    path.write_text("labelS")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def swap(path: Path) -> None:
    write(path.with_name("other"), "other")
    path.with_name("other").replace(path)


@pytest.mark.parametrize("change", [edit, edit_and_keep_time_and_size, replace_by_link, replace_by_folder, swap])
def test_a_changed_result_is_not(change: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write(path, "labels")
    change(path)
    before = None if path.is_dir() else path.read_text()
    with pytest.raises(FileExistsError, match=r"would replace 1 files .*a\.txt\..*--overwrite True"):
        write(path, "new")
    assert before is None or path.read_text() == before
    if not path.is_dir():
        write(path, "new", overwrite=True)
        assert is_own(path)


def test_files_of_others_are_named(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.txt" for number in range(5)]
    for path in paths:
        path.write_text("x")
    with pytest.raises(FileExistsError, match=r"replace 5 files .*0\.txt, .*1\.txt, .*2\.txt, \.\.\."):
        require_own(paths)


def test_the_record_is_that_of_sha256sum_and_follows_no_link(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "one")
    line = f"{hashlib.sha256(b'one').hexdigest()}  a.txt\n"
    assert (tmp_path / ".written.sha256").read_text() == line
    (tmp_path / "trap").mkdir()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "trap" / ".written.sha256").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        write(tmp_path / "trap" / "a.txt", "one")
    assert victim.read_text() == "precious"


def test_a_failing_write_leaves_the_earlier_result_its_own(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "one")
    with pytest.raises(ValueError, match="bad"), own_path(tmp_path / "a.txt") as temporary:  # noqa: PT012
        temporary.write_text("ha")
        raise ValueError("bad")
    write(tmp_path / "a.txt", "two")
    assert (tmp_path / "a.txt").read_text() == "two"


def test_no_name_forges_a_line_of_the_record(tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.write_text("by hand")
    checksum = hashlib.sha256(labels.read_bytes()).hexdigest()
    write(tmp_path / f"a\n{checksum}  labels", "x")
    assert not is_own(labels)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_sha256sum_reads_the_record(tmp_path: Path) -> None:
    for name in ("plain", *AWKWARD):
        write(tmp_path / name, name)
    subprocess.run(["sha256sum", "--check", "--strict", ".written.sha256"], cwd=tmp_path, check=True)
