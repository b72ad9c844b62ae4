# SPDX-License-Identifier: Apache-2.0
"""Small JSON files."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_sam2adapter.json_file import read_json, write_json


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
