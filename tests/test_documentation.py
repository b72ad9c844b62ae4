# SPDX-License-Identifier: Apache-2.0
"""The documentation: its code runs, its commands and links hold, and the site builds."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import io
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import monai.bundle
import pytest
from monai.bundle import ConfigParser
from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS

import monai_sam2adapter
from monai_sam2adapter.__main__ import _build_parser
from monai_sam2adapter.networks.adapters import registry

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BUNDLES = sorted(path.parents[1] for path in ROOT.glob("bundles/*/docs/README.md"))
SITE_PAGES = [page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *SITE_PAGES, *(bundle / "docs/README.md" for bundle in BUNDLES)]
# a block of code, and the output that the page shows right below it
PYTHON_BLOCK = re.compile(r"```python\n(?P<code>.*?)```\n(?:\n```text\n(?P<output>.*?)```)?", re.DOTALL)
# a file that the reader is told to write
JSON_FILE = re.compile(r"```json title=(?P<name>\S+)\n(?P<text>.*?)```", re.DOTALL)
COMMAND = re.compile(r"^ *(?P<command>(?:python|torchrun .*?) -m monai(?:_sam2adapter|\.bundle) .*)$", re.MULTILINE)
# what the extras bring; not every machine has them
EXTRAS = ("onnx", "onnxscript", "onnxruntime", "highdicom", "pydicom")


def page_ids(pages: list[Path]) -> list[str]:
    return [page.relative_to(ROOT).as_posix() for page in pages]


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def json_files(page: Path) -> dict[str, str]:
    return {match["name"]: match["text"] for match in JSON_FILE.finditer(read(page))}


def commands(page: Path) -> Iterator[list[str]]:
    """The command lines of a page as a shell would split them, with the page's one-letter variables put in."""
    text = read(page).replace("\\\n", " ")
    variables = dict(re.findall(r"^ *([A-Z])=(\S+)$", text, re.MULTILINE))
    for match in COMMAND.finditer(text):
        if "..." not in match["command"]:
            command = re.sub(r"\$([A-Z])\b", lambda variable: variables[variable[1]], match["command"])
            yield shlex.split(command, comments=True)


PAGES_WITH_CODE = [page for page in PAGES if PYTHON_BLOCK.search(read(page))]
COMMANDS = [
    pytest.param(page, command, id=f"{page_id}-{number}")
    for page, page_id in zip(PAGES, page_ids(PAGES), strict=True)
    for number, command in enumerate(commands(page))
]


@pytest.mark.parametrize("page", PAGES_WITH_CODE, ids=page_ids(PAGES_WITH_CODE))
def test_python_blocks_run(page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_ADAPTERS", dict(registry._ADAPTERS))
    shutil.copytree(ROOT / "bundles", "bundles", ignore=shutil.ignore_patterns("models", "eval", "prediction", "data"))
    for name, text in json_files(page).items():
        Path(name).write_text(text, encoding="utf-8")
    namespace = {"__name__": "documentation"}
    for match in PYTHON_BLOCK.finditer(read(page)):
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile(match["code"], page.name, "exec"), namespace)
        except ModuleNotFoundError as error:
            if error.name not in EXTRAS:
                raise
            pytest.skip(f"{error.name} is missing, which an extra brings")
        if match["output"] is not None:
            assert printed.getvalue().strip() == match["output"].strip()


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_commands_are_understood(
    page: Path, command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program, *arguments = command[command.index("-m") + 1 :]
    if program == "monai_sam2adapter":
        if arguments:
            _build_parser().parse_args(arguments)
        return
    subcommand, *arguments = arguments
    positional = arguments[: next((i for i, word in enumerate(arguments) if word.startswith("--")), len(arguments))]
    words = arguments[len(positional) :]
    options = {name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)}
    known = inspect.signature(getattr(monai.bundle, subcommand)).parameters
    overrides = set(options) - set(known) - set(DEFAULT_MLFLOW_SETTINGS["configs"] if "tracking" in options else ())
    # a bundle's README is written for its folder, everything else for the checkout
    monkeypatch.chdir(page.parents[1] if page.parents[1] in BUNDLES else ROOT)
    for name in ("logging_file", "meta_file", "bundle_root"):
        assert Path(options.get(name, ".")).exists()
    if "config_file" not in options:
        assert not overrides
        return
    config = merged_config(page, options["config_file"], tmp_path)
    assert [key for key in overrides if key not in config] == []
    assert (positional or ["run"])[0] in config


def merged_config(page: Path, config_file: str, folder: Path) -> ConfigParser:
    """The entries of a command's configs, which are the project's or shown on the page."""
    files = ast.literal_eval(config_file) if config_file.startswith("[") else [config_file]
    for name, text in json_files(page).items():
        (folder / name).write_text(text, encoding="utf-8")
    config = ConfigParser()
    config.read_config([folder / file if file in json_files(page) else file for file in files])
    return config


@pytest.mark.parametrize("page", PAGES, ids=page_ids(PAGES))
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]*)(?:#[^)]*)?\)", read(page))
    missing = [target for target in targets if target and not (page.parent / target).exists()]
    assert not missing


def test_every_bundle_has_a_page() -> None:
    missing = [bundle.name for bundle in BUNDLES if not (DOCS / "bundles" / f"{bundle.name}.md").is_file()]
    assert not missing, "write a stub beside the others in docs/bundles"


def test_every_public_name_has_a_reference_page() -> None:
    reference = "".join(map(read, (DOCS / "api").glob("*.md")))
    documented = set(re.findall(r"automodule:: (\S+)\n", reference))
    shown = {name for module in documented for name in importlib.import_module(module).__all__}
    missing = [
        f"{module.name}.{name}"
        for module in pkgutil.walk_packages(monai_sam2adapter.__path__, "monai_sam2adapter.")
        if module.ispkg and module.name not in ("monai_sam2adapter.networks", "monai_sam2adapter.commands")
        for name in importlib.import_module(module.name).__all__
        if name not in shown
    ]
    assert missing == []


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    for package in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(package, reason=f"{package} is missing; install the extra 'docs'")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "index.html").is_file()
