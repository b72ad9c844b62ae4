# SPDX-License-Identifier: Apache-2.0
"""atomic_path: the old file or the new one, nothing else."""

from __future__ import annotations

import errno
import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from monai_sam2adapter.utils import atomic_path, read_json, require_writable, write_json


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


@pytest.mark.parametrize("content", [b'{"half": ', b"\xff\xfe", b""])
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"file\.json is damaged or no JSON"):
        read_json(tmp_path / "file.json")


def test_what_json_cannot_hold_leaves_the_old_file(tmp_path: Path) -> None:
    write_json({"old": 1}, tmp_path / "file.json")
    with pytest.raises(TypeError):
        write_json({"new": object()}, tmp_path / "file.json")
    assert read_json(tmp_path / "file.json") == {"old": 1}


@pytest.mark.parametrize("name", ["last.pt", "p1_seg.nii.gz", "x" * 250, "a\nb", "-rf"])
def test_no_link_is_followed(tmp_path: Path, name: str) -> None:
    victim, out = tmp_path / "victim", tmp_path / "out"
    for folder in (victim, out):
        folder.mkdir()
    (victim / name).write_text("precious")
    # what an attacker could lay there: links by names that were once used, and by the present prefix
    for number, trap in enumerate((f".unfinished.{name}"[:255], f"{name}.part"[:255], ".unfinished.x")):
        (out / trap).symlink_to(victim if number == 2 else victim / name)
    (out / name).symlink_to(victim / name)
    with atomic_path(out / name) as temporary:
        temporary.write_text("weights")
    assert (victim / name).read_text() == "precious"
    assert (out / name).read_text() == "weights"
    assert not (out / name).is_symlink()


def test_the_temporary_folder_is_closed_to_others_and_never_called_the_same(tmp_path: Path) -> None:
    folders = set()
    for _ in range(3):
        with atomic_path(tmp_path / "b.txt") as temporary:
            assert temporary.parent.stat().st_mode & 0o777 == 0o700
            folders.add(temporary.parent.name)
            temporary.write_text("x")
    assert len(folders) == 3


def test_a_folder_that_only_looks_unfinished_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / ".unfinished.notes"
    mine.mkdir()
    for name in ("a.txt", "more.txt"):
        (mine / name).write_text("mine")
    killed = tmp_path / ".unfinished.1234"
    killed.mkdir()
    (killed / "a.txt").write_text("half")
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("a")
    assert sorted(os.listdir(mine)) == ["a.txt", "more.txt"]
    assert not killed.exists()


def test_another_files_unfinished_write_is_left_alone(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.txt") as first:
        first.write_text("a")
        with atomic_path(tmp_path / "b.txt") as second:
            second.write_text("b")
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "b.txt"]


def write_by(write: Callable[[Path], object], path: Path) -> None:
    with atomic_path(path) as temporary:
        write(temporary)


def write_torch(path: Path) -> None:
    import torch

    torch.save({"weight": torch.zeros(1 << 20)}, path)


def write_png(path: Path) -> None:
    from PIL import Image

    Image.effect_noise((1500, 1500), 100).save(path)


def write_nifti(path: Path) -> None:
    import nibabel
    import numpy as np

    nibabel.save(nibabel.Nifti1Image(np.random.default_rng(0).random((100, 100, 100)), np.eye(4)), path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("last.pt", write_torch),
        ("a.png", write_png),
        ("a.nii.gz", write_nifti),
        ("a.txt", lambda path: path.write_text("x" * (1 << 21))),
        ("b.txt", lambda path: path.open("w").write("x" * (1 << 21))),
    ],
)
def test_a_medium_without_room_names_the_file_and_the_cause(
    tmp_path: Path, name: str, write: Callable[[Path], object]
) -> None:
    resource = pytest.importorskip("resource")
    (tmp_path / name).write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, limits[1]))
    try:
        with pytest.raises(OSError, match="too large while writing; make room") as caught:
            write_by(write, tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(tmp_path / name)
    assert (tmp_path / name).read_text() == "old"
    assert os.listdir(tmp_path) == [name]


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    for error in (KeyError, PermissionError):
        with pytest.raises(error):
            write_by(_raises(error("no disk")), tmp_path / "a.txt")
    with pytest.raises(FileNotFoundError):
        write_by(lambda path: None, tmp_path / "a.txt")


@pytest.mark.parametrize("place", ["file", "file/below", "link_to_nothing/below"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link_to_nothing").symlink_to(tmp_path / "file")
    with pytest.raises(OSError, match=r"is a file.*choose another output_dir") as caught:
        require_writable(tmp_path / place)
    assert caught.value.filename == str(tmp_path / place)


def test_a_full_or_closed_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (errno.ENOSPC, errno.EROFS, errno.EACCES):
        monkeypatch.setattr("tempfile.NamedTemporaryFile", _raises(OSError(number, os.strerror(number))))
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            require_writable(tmp_path)
        assert (caught.value.errno, caught.value.filename) == (number, str(tmp_path))


def _raises(error: Exception) -> Callable[..., object]:
    def function(*args: object, **kwargs: object) -> None:
        raise error

    return function


def test_a_folder_that_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "a" / "b"):
        require_writable(folder)
        assert os.listdir(tmp_path) == []
