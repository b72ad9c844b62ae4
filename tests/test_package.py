# SPDX-License-Identifier: Apache-2.0
"""Rules that the whole package keeps: directions of imports, names, headers, lengths."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import monai
import pytest

import monai_sam2adapter

PACKAGE = "monai_sam2adapter"
ROOT = Path(monai_sam2adapter.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
NAMES = [path.relative_to(ROOT.parent).as_posix() for path in FILES]

# From what is used to what uses it: a room imports itself and those before it.
ROOMS = (
    *("utils", "losses", "metrics", "data", "inferers", "transforms", "visualize", "reports", "engines"),
    *("networks.layers", "networks.blocks", "networks.adapters", "networks.weights", "networks.nets", "networks"),
    *("handlers", "bundle", "auto3dseg", "comparison", "commands"),
)
# of the data: nobody but phantoms and checks knows a data set
DATA_ROOMS = ("data.dicom", "data.readers", "data.datasets", "data.phantoms")
IMPORTED_AT_FIRST_USE = ("timm", "torchvision")


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(source: str, module: str, is_package: bool, *, top_level_only: bool = False) -> set[str]:
    """Absolute names of everything that a module imports; ``from a import b`` gives both ``a`` and ``a.b``."""
    package = module if is_package else module.rpartition(".")[0]
    found: set[str] = set()
    for node in top_level_nodes(ast.parse(source)) if top_level_only else ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
            found.update({base, *(f"{base}.{alias.name}" for alias in node.names)})
    return found


def top_level_nodes(tree: ast.AST):
    """Everything that runs when a module is imported: all but the bodies of functions."""
    for node in ast.iter_child_nodes(tree):
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from top_level_nodes(node)


def imports_of(path: Path, **kwargs: bool) -> set[str]:
    return imported_modules(path.read_text(encoding="utf-8"), module_of(path), path.name == "__init__.py", **kwargs)


def is_inside(module: str, folder: str) -> bool:
    name = f"{PACKAGE}.{folder}" if folder else PACKAGE
    return module == name or module.startswith(f"{name}.")


def breaches(module: str, imports: set[str]) -> list[str]:
    """What a module imports against the directions."""
    found: set[str] = set()
    for rooms in (ROOMS, DATA_ROOMS):
        own = next((index for index, room in enumerate(rooms) if is_inside(module, room)), len(rooms))
        later = rooms[own + 1 :]
        found |= {name for name in imports for room in later if is_inside(name, room) and not is_inside(module, room)}
    return sorted(found)


class TestImports:
    @pytest.mark.parametrize("path", FILES, ids=NAMES)
    def test_go_one_way(self, path):
        assert breaches(module_of(path), imports_of(path)) == []

    @pytest.mark.parametrize(
        ("module", "source"),
        [
            ("networks.layers.x", "from ..blocks import HieraBlock"),
            ("networks.blocks.x", "from monai_sam2adapter.networks.adapters import base"),
            ("networks.adapters.x", "from .. import nets"),
            ("networks.nets.x", "def f():\n    from ...handlers import Y"),
            ("utils.x", "from ..data import y"),
            ("reports.x", "from ..handlers import y"),
            ("handlers.x", "from ..comparison import y"),
            ("data.readers.x", "from ..datasets import y"),
            ("metrics.x", "import monai_sam2adapter.networks.utils"),
            ("data.x", "from ..networks import layers"),
            ("inferers.x", "from .. import networks"),
        ],
        ids=str,
    )
    def test_a_breach_is_seen(self, module, source):
        module = f"{PACKAGE}.{module}"
        assert breaches(module, imported_modules(source, module, is_package=False))

    @pytest.mark.parametrize("path", FILES, ids=NAMES)
    def test_optional_packages_wait_for_their_first_use(self, path):
        imports = imports_of(path, top_level_only=True)
        assert [name for name in imports if name.split(".")[0] in IMPORTED_AT_FIRST_USE] == []

    def test_an_import_inside_of_a_condition_counts_and_one_in_a_function_does_not(self):
        source = "if True:\n    import torchvision\ndef f():\n    import torch\n"
        assert imported_modules(source, PACKAGE, is_package=True, top_level_only=True) == {"torchvision"}


class TestFiles:
    @pytest.mark.parametrize("path", FILES, ids=NAMES)
    def test_header(self, path):
        source = path.read_text(encoding="utf-8")
        assert source.startswith("# SPDX-License-Identifier: Apache-2.0\n")
        assert ast.get_docstring(ast.parse(source)), "a module docstring says what the file is for"

    @pytest.mark.parametrize("path", FILES, ids=NAMES)
    def test_logs_nothing_from_outside_as_it_is(self, path):
        assert "getLogger(__name__)" not in path.read_text(encoding="utf-8"), "take utils.escaping_logger"

    @pytest.mark.parametrize("path", FILES, ids=NAMES)
    def test_names_what_is_public(self, path):
        statements = [
            node for node in ast.parse(path.read_text(encoding="utf-8")).body if not isinstance(node, ast.Expr)
        ]
        if not statements or (path.name.startswith("_") and path.name != "__init__.py"):
            return  # a private file has no public names, nor has one of only a docstring
        module = importlib.import_module(module_of(path))
        assert module.__all__, "public names are listed"
        assert len(set(module.__all__)) == len(module.__all__)
        missing = [name for name in module.__all__ if not hasattr(module, name)]
        assert missing == []

    @pytest.mark.parametrize("path", FILES, ids=NAMES)
    def test_is_short_enough_to_review(self, path):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def public_names() -> set[str]:
    names: set[str] = set()
    for path in FILES:
        if path.name == "__init__.py" or not path.name.startswith("_"):
            names.update(getattr(importlib.import_module(module_of(path)), "__all__", ()))
    return names - {"__version__"} - {path.parent.name for path in FILES if path.name == "__init__.py"}


def names_defined_in(source: str) -> set[str]:
    """Classes, functions and assigned names at the top of a module."""
    found: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return found


def monai_names() -> set[str]:
    """Read from the files of MONAI, since importing all of it needs its optional packages and minutes."""
    names: set[str] = set()
    for finder, name, _ in pkgutil.walk_packages(monai.__path__, "monai.", onerror=lambda name: None):
        spec = finder.find_spec(name, None)
        if spec is not None and spec.origin and spec.origin.endswith(".py"):
            names |= names_defined_in(Path(spec.origin).read_text(encoding="utf-8"))
    return {name for name in names if not name.startswith("_")}


def test_no_public_name_is_one_of_monai():
    """MONAI's bundle resolver scans modules whose name starts with "monai": of two equal names it takes its own."""
    known = monai_names()
    assert {"UNet", "DiceLoss", "SlidingWindowInferer", "look_up_option", "SwinUNETR"} <= known
    assert len(public_names()) > 20
    assert sorted(public_names() & known) == []
