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

from monai_sam2adapter.handlers import atomic_path


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
