# SPDX-License-Identifier: Apache-2.0
"""Names, colors and codes of classes, from a bundle's metadata."""

from __future__ import annotations

from typing import Any

import pytest

from monai_sam2adapter.data import LabelScheme
from monai_sam2adapter.visualize import PALETTE


def metadata(**output: Any) -> dict[str, Any]:
    return {"name": "Hearts", "version": "1.2", "network_data_format": {"outputs": {"pred": output}}}


def test_what_is_not_said_is_filled_in() -> None:
    code = {"category": ["91723000", "SCT", "Anatomical Structure"], "type": ["87878005", "SCT", "Left ventricle"]}
    names = {"0": "background", "2": "ventricle", "1": "wall", "10": "fat"}
    given = metadata(channel_def=names, channel_colors={"2": [255, 0, 9]}, channel_codes={"2": code})
    scheme = LabelScheme.from_metadata(given)
    assert scheme.names == ("wall", "ventricle", "fat")
    assert scheme.colors == (PALETTE[0], (255, 0, 9), PALETTE[2])
    assert scheme.codes == ({}, code, {})
    assert (scheme.model, scheme.version) == ("Hearts", "1.2")


def test_other_classes_get_colors_by_their_names() -> None:
    names = {"0": "background", "1": "wall", "2": "ventricle"}
    given = metadata(channel_def=names, channel_colors={"1": [1, 2, 3], "2": [255, 0, 9]})
    scheme = LabelScheme.from_metadata(given, ["background", "fat", "ventricle"])
    assert scheme.names == ("fat", "ventricle")
    assert scheme.colors == (PALETTE[0], (255, 0, 9))


def test_colors_and_codes_may_be_given_by_name(caplog: pytest.LogCaptureFixture) -> None:
    code = {"category": ["91723000", "SCT", "Anatomical Structure"], "type": ["256674009", "SCT", "Fat"]}
    looks = {"channel_colors": {"1": [1, 2, 3], "fat": [255, 0, 9]}, "channel_codes": {"fat": code, "vein": code}}
    given = metadata(channel_def={"0": "background", "1": "wall"}, **looks)
    scheme = LabelScheme.from_metadata(given, ["background", "fat", "wall", "vein"])
    assert scheme.colors == ((255, 0, 9), (1, 2, 3), PALETTE[2])
    assert scheme.codes == (code, {}, code)
    assert not caplog.messages
    scheme = LabelScheme.from_metadata(given, ["background", "fat", "bone"])
    assert (scheme.colors[1], scheme.codes[1]) == (PALETTE[1], {})
    assert "the metadata has no class 'bone'" in caplog.text


def test_a_single_channel_is_the_foreground() -> None:
    assert LabelScheme.from_metadata(metadata(channel_def={"0": "polyp"})).names == ("polyp",)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({}, "names no classes"),
        (
            {"channel_def": {"0": "a", "1": "b"}, "channel_colors": {"1": [0, 0, 256]}},
            r"the metadata, b: the color is \[0, 0",
        ),
        (
            {"channel_def": {"0": "a"}, "channel_codes": {"0": {"type": ["1", "SCT", "x"]}}},
            r"the metadata, a: the codes",
        ),
    ],
    ids=["no-names", "color", "codes"],
)
def test_malformed_metadata_is_refused(output: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelScheme.from_metadata(metadata(**output))


def test_missing_metadata_is_named() -> None:
    with pytest.raises(ValueError, match=r"no metadata, .* by --meta_file"):
        LabelScheme.from_metadata({})
