# SPDX-License-Identifier: Apache-2.0
"""The bundle for one's own volumes as an algorithm of MONAI's Auto3DSeg."""

from __future__ import annotations

from .algo import SAM2AdapterAlgo
from .case_inferer import CaseInferer

__all__ = ["CaseInferer", "SAM2AdapterAlgo"]
