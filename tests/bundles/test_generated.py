# SPDX-License-Identifier: Apache-2.0
"""The bundles are what their templates and overlays make."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

GENERATE = Path(__file__).parents[2] / "bundles" / "_templates" / "generate.py"


def test_generated_bundles_are_those_committed() -> None:
    checked = subprocess.run([sys.executable, str(GENERATE), "--check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, f"run `make bundles`: {checked.stdout}{checked.stderr}"
