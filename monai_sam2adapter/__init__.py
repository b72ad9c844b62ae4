# SPDX-License-Identifier: Apache-2.0
"""SAM 2 adapted to prompt-free, multi-class biomedical segmentation, as MONAI networks and bundles."""

from __future__ import annotations

from ._version import __version__

__all__ = ["__version__"]
