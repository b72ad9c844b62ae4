# SPDX-License-Identifier: Apache-2.0
"""Letting MONAI's bundle configs name the components of this package without their modules."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import wraps
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["register_bare_names"]

_LOCATOR_MODULE = "monai.bundle.config_item"
_ROOMS = ("data", "engines", "handlers", "inferers", "losses", "metrics", "networks", "transforms")


def register_bare_names() -> None:
    """
    Let ``"_target_": "PromptFreeSAM2"`` be found, whether MONAI's bundle package is imported already or will be.

    MONAI looks for bare names in the imported modules whose names start with "monai". So all rooms with components are
    imported before a config parser's first look, not earlier: an import of this package alone loads no PyTorch.
    """
    if _LOCATOR_MODULE in sys.modules:
        _import_rooms_before_first_look(sys.modules[_LOCATOR_MODULE])
    else:
        sys.meta_path.insert(0, _AfterImport())


class _AfterImport(MetaPathFinder):
    """Waits for the import of MONAI's module, and takes itself out of the way then."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Leave every module to the other finders; that one gets our step at the end of its execution."""
        if name != _LOCATOR_MODULE:
            return None
        sys.meta_path.remove(self)
        specs = (finder.find_spec(name, path, target) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _import_rooms_before_first_look(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _import_rooms_before_first_look(module: ModuleType) -> None:
    locator = module.ComponentLocator
    look = locator.get_component_module_name

    @wraps(look)
    def get_component_module_name(self: object, name: str) -> object:
        for room in _ROOMS:
            import_module(f"{__package__}.{room}")
        return look(self, name)

    locator.get_component_module_name = get_component_module_name
