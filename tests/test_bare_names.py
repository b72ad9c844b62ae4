# SPDX-License-Identifier: Apache-2.0
"""MONAI's config parser finds the components of this package by bare names, and its own as before."""

from __future__ import annotations

import subprocess
import sys

import pytest

ORDERS = {
    "package first": "import monai_sam2adapter; import monai.bundle",
    "bundle first, package among the imports": "import monai.bundle",
    "a network first": "from monai_sam2adapter.networks.nets import SAM2UNet; import monai.bundle",
}
CHECK = """
from monai.bundle import ConfigParser
target = {"_target_": "PositionalEncodingGenerator", "channels": 8}
parser = ConfigParser({"imports": ["$import monai_sam2adapter"], "first": {"_target_": "Flip"}, "peg": target})
assert parser.get_parsed_content("first").__class__.__module__.startswith("monai.transforms")
assert parser.get_parsed_content("peg").conv.groups == 8
import inspect
import monai_sam2adapter
from monai.bundle import ComponentLocator
rooms = "data engines handlers inferers losses metrics transforms".split()
rooms = [getattr(monai_sam2adapter, room) for room in rooms]
rooms += [getattr(monai_sam2adapter.networks, room) for room in "adapters blocks layers nets".split()]
public = {name: getattr(room, name) for room in rooms for name in room.__all__}
public = {name: thing for name, thing in public.items() if inspect.isclass(thing)}
assert {"PromptFreeSAM2", "SAM2UNet", "SAM2UNeXT", "HPAdapter", "VolumeSliceInferer", "CaseEvaluator"} <= public.keys()
locate = ComponentLocator().get_component_module_name
assert {name: locate(name) for name in public} == {name: thing.__module__ for name, thing in public.items()}
"""
NO_CLASH = """
from monai.bundle import ComponentLocator
def table():
    locator = ComponentLocator()
    locator.get_component_module_name("UNet")
    return locator._components_table
before = table()
import monai_sam2adapter
after = table()
assert "PromptFreeSAM2" in after and "PromptFreeSAM2" not in before
changed = [name for name in before if not name.startswith("_") and after[name] != before[name]]
assert changed == [], changed
"""


def run(code: str) -> None:
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("order", ORDERS)
def test_components_are_found_in_every_order_of_imports(order: str) -> None:
    run(ORDERS[order] + CHECK)


def test_names_of_monai_are_found_where_they_were() -> None:
    run(NO_CLASH)


def test_package_and_command_line_alone_import_neither_pytorch_nor_monai() -> None:
    modules = "sys, monai_sam2adapter.__main__, monai_sam2adapter.utils"
    run(f"import {modules}; assert not {{'torch', 'monai', 'numpy'}} & sys.modules.keys()")
