# SPDX-License-Identifier: Apache-2.0
"""A small synthetic ACDC for the tests of data sets."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from monai_sam2adapter.data import write_acdc_phantom


@pytest.fixture(scope="session")
def phantom_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms of three patients, one in each part of the split; not to be changed."""
    folder = tmp_path_factory.mktemp("phantom")
    write_acdc_phantom(folder, num_train=1, num_val=1, num_test=1, progress=False)
    return folder


@pytest.fixture
def acdc_dir(phantom_dir: Path, tmp_path: Path) -> Path:
    """A copy of the phantoms that a test may damage: patients 001 (train), 015 (val) and 017 (test)."""
    return Path(shutil.copytree(phantom_dir, tmp_path / "acdc"))
