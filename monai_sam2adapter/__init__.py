# SPDX-License-Identifier: Apache-2.0
"""SAM 2 adapted to prompt-free, multi-class biomedical segmentation, as MONAI networks and bundles."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from ._bare_names import register_bare_names
from ._version import __version__

__all__ = [
    "__version__",
    "auto3dseg",
    "bundle",
    "comparison",
    "data",
    "engines",
    "handlers",
    "inferers",
    "losses",
    "metrics",
    "networks",
    "reports",
    "transforms",
    "utils",
    "visualize",
]


def __getattr__(name: str) -> ModuleType:
    """Import a subpackage at its first use, so that the command line's help does not wait for PyTorch."""
    if name in __all__:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


register_bare_names()
