# SPDX-License-Identifier: Apache-2.0
"""What several tests need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: SAM2ADAPTER_DATA, else ../shared/data beside the checkout; skips where there is none."""
    folder = Path(os.environ.get("SAM2ADAPTER_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no real data: set SAM2ADAPTER_DATA to its folder")
    return folder


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
