# SPDX-License-Identifier: Apache-2.0
"""atomic_path: the old file or the new one, nothing else."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from monai_sam2adapter.utils import atomic_path, read_json, write_json


def test_makes_the_folder_and_replaces_the_file(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with atomic_path(tmp_path / "a" / "b.txt") as temporary:
            temporary.write_text(text)
    assert (tmp_path / "a" / "b.txt").read_text() == "new"
    assert os.listdir(tmp_path / "a") == ["b.txt"]


def write_half(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("ne")
        raise OSError("disk full")


def test_error_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("old")
    with pytest.raises(OSError, match="disk full"):
        write_half(tmp_path / "b.txt")
    assert (tmp_path / "b.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["b.txt"]


# loads the module by its file, since importing the package would take seconds
KILLED_WHILE_WRITING = """
import os, runpy, signal, sys
with runpy.run_path(sys.argv[1])["atomic_path"](sys.argv[2]) as temporary:
    temporary.write_text("ne")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_kill_while_writing_keeps_the_old_file_and_the_next_write_cleans_up(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("old")
    module = inspect.getsourcefile(inspect.unwrap(atomic_path))
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, str(module), str(tmp_path / "b.txt")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert (tmp_path / "b.txt").read_text() == "old"
    with atomic_path(tmp_path / "b.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "b.txt").read_text() == "new"
    assert os.listdir(tmp_path) == ["b.txt"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0o022)
    try:
        with atomic_path(tmp_path / "b.txt") as temporary:
            temporary.write_text("x")
    finally:
        os.umask(previous)
    assert (tmp_path / "b.txt").stat().st_mode & 0o777 == 0o644


def test_reads_what_it_wrote_into_a_new_folder(tmp_path: Path) -> None:
    content = {"score": 0.1 + 0.2, "names": ["ä", "b"], "none": None}
    write_json(content, tmp_path / "new" / "file.json")
    assert read_json(tmp_path / "new" / "file.json") == content


def test_a_missing_file_is_none(tmp_path: Path) -> None:
    assert read_json(tmp_path / "file.json") is None


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text('{"half": ')
    with pytest.raises(ValueError, match=r"file\.json is damaged or no JSON"):
        read_json(tmp_path / "file.json")


def test_what_json_cannot_hold_leaves_the_old_file(tmp_path: Path) -> None:
    write_json({"old": 1}, tmp_path / "file.json")
    with pytest.raises(TypeError):
        write_json({"new": object()}, tmp_path / "file.json")
    assert read_json(tmp_path / "file.json") == {"old": 1}
