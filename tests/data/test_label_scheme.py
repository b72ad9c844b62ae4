# SPDX-License-Identifier: Apache-2.0
"""Names, colors and codes of classes, from a bundle's metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from monai_sam2adapter.data import LabelScheme
from monai_sam2adapter.visualize import PALETTE


def write(folder: Path, **output: Any) -> Path:
    path = folder / "metadata.json"
    metadata = {"name": "Hearts", "version": "1.2", "network_data_format": {"outputs": {"pred": output}}}
    path.write_text(json.dumps(metadata), encoding="utf-8")
    return path


def test_what_is_not_said_is_filled_in(tmp_path: Path) -> None:
    code = {"category": ["91723000", "SCT", "Anatomical Structure"], "type": ["87878005", "SCT", "Left ventricle"]}
    names = {"0": "background", "2": "ventricle", "1": "wall", "10": "fat"}
    path = write(tmp_path, channel_def=names, channel_colors={"2": [255, 0, 9]}, channel_codes={"2": code})
    scheme = LabelScheme.from_metadata(path)
    assert scheme.names == ("wall", "ventricle", "fat")
    assert scheme.colors == (PALETTE[0], (255, 0, 9), PALETTE[2])
    assert scheme.codes == ({}, code, {})
    assert (scheme.model, scheme.version) == ("Hearts", "1.2")


def test_other_classes_get_colors_by_their_names(tmp_path: Path) -> None:
    names = {"0": "background", "1": "wall", "2": "ventricle"}
    path = write(tmp_path, channel_def=names, channel_colors={"1": [1, 2, 3], "2": [255, 0, 9]})
    scheme = LabelScheme.from_metadata(path, ["background", "fat", "ventricle"])
    assert scheme.names == ("fat", "ventricle")
    assert scheme.colors == (PALETTE[0], (255, 0, 9))


def test_colors_and_codes_may_be_given_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    code = {"category": ["91723000", "SCT", "Anatomical Structure"], "type": ["256674009", "SCT", "Fat"]}
    given = {"channel_colors": {"1": [1, 2, 3], "fat": [255, 0, 9]}, "channel_codes": {"fat": code, "vein": code}}
    path = write(tmp_path, channel_def={"0": "background", "1": "wall"}, **given)
    scheme = LabelScheme.from_metadata(path, ["background", "fat", "wall", "vein"])
    assert scheme.colors == ((255, 0, 9), (1, 2, 3), PALETTE[2])
    assert scheme.codes == (code, {}, code)
    assert not caplog.messages
    scheme = LabelScheme.from_metadata(path, ["background", "fat", "bone"])
    assert (scheme.colors[1], scheme.codes[1]) == (PALETTE[1], {})
    assert "metadata.json has no class 'bone'" in caplog.text


def test_a_single_channel_is_the_foreground(tmp_path: Path) -> None:
    assert LabelScheme.from_metadata(write(tmp_path, channel_def={"0": "polyp"})).names == ("polyp",)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({}, "names no classes"),
        (
            {"channel_def": {"0": "a", "1": "b"}, "channel_colors": {"1": [0, 0, 256]}},
            r"metadata\.json, b: the color is \[0, 0",
        ),
        (
            {"channel_def": {"0": "a"}, "channel_codes": {"0": {"type": ["1", "SCT", "x"]}}},
            r"metadata\.json, a: the codes",
        ),
    ],
    ids=["no-names", "color", "codes"],
)
def test_malformed_metadata_is_refused(output: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        LabelScheme.from_metadata(write(tmp_path, **output))


def test_missing_metadata_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="give the bundle's folder by --bundle_root"):
        LabelScheme.from_metadata(tmp_path / "metadata.json")
