# SPDX-License-Identifier: Apache-2.0
"""The command line: what it prints, where, and its exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from monai_sam2adapter.__main__ import main

SMALL = ["--train", "1", "--val", "1", "--test", "1"]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "acdc"
    assert main(["phantom", "acdc", str(folder), *SMALL]) == 0
    return folder


def test_the_module_alone_prints_help() -> None:
    run = subprocess.run([sys.executable, "-m", "monai_sam2adapter"], capture_output=True, text=True)
    assert run.returncode == 0
    assert all(
        command in run.stdout for command in ("usage: python -m monai_sam2adapter", "check", "phantom", "download")
    )


def test_phantoms_pass_the_check(phantoms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "acdc", str(phantoms)]) == 0
    out, err = capsys.readouterr()
    assert "no problems found" in out
    assert "Checking ACDC: 100%" in err


def test_phantom_again_says_that_it_is_there(phantoms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["phantom", "acdc", str(phantoms), *SMALL]) == 0
    assert f"{phantoms}: the same phantoms are there already" in capsys.readouterr().out


def test_a_check_with_problems_exits_with_1(phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split = tmp_path / "own.json"
    split.write_text('{"train": ["patient001", "patient015", "patient017"], "val": [], "test": []}')
    assert main(["check", "acdc", str(phantoms), "--split_file", str(split)]) == 1
    assert "2 problems:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["check", "acdc", "absent"], "error: no folder absent;", id="missing-folder"),
        pytest.param(["phantom", "acdc", "new", "--train", "71"], "error: num_train is 71,", id="wrong-number"),
        pytest.param(["download", "sam2.1_hiera_tiney"], "did you mean 'sam2.1_hiera_tiny'", id="misspelt-checkpoint"),
    ],
)
def test_errors_are_one_line_on_stderr_and_exit_with_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


def test_an_unknown_data_set_is_answered_with_the_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["check", "acdx", "folder"])
    assert "acdc" in capsys.readouterr().err


def test_download_passes_name_and_folder_on_and_prints_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import monai_sam2adapter.networks.weights as weights

    calls = []

    def download(name: str, directory: str | None) -> Path:
        calls.append((name, directory))
        return tmp_path / "file.pt"

    monkeypatch.setattr(weights, "download_sam2_checkpoint", download, raising=False)
    assert main(["download", "sam2_hiera_tiny", "here"]) == 0
    assert calls == [("sam2_hiera_tiny", "here")]
    assert capsys.readouterr().out.strip() == str(tmp_path / "file.pt")
