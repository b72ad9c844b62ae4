# SPDX-License-Identifier: Apache-2.0
"""A flag says what it reads as."""

from __future__ import annotations

import pytest

from monai_sam2adapter.utils.flags import as_flag


@pytest.mark.parametrize("value", [True, "true", "True", "TRUE"])
def test_yes(value: object) -> None:
    assert as_flag(value, "resume") is True


@pytest.mark.parametrize("value", [False, "false", "False"])
def test_no(value: object) -> None:
    assert as_flag(value, "resume") is False


@pytest.mark.parametrize("value", ["yes", "1", 1, 0, None, ""])
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="resume must be True or False, got"):
        as_flag(value, "resume")
