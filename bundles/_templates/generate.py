# SPDX-License-Identifier: Apache-2.0
"""
Make the bundles: ``python bundles/_templates/generate.py``; with ``--check`` only say which files are not up to date.

Every folder beside ``_templates`` with an ``overlay.json`` is a bundle. It is made in three steps: the files of
``common``, what the template for its kind of images (``volume`` or ``picture``) makes of them, and what the task does.
The last two say so in their ``overlay.json``, by file and by MONAI's ids:

    {
        "template": "volume",
        "change": {"configs/train.json": {"image_size": 256, "train#loss": {...}}},
        "add": {"configs/train.json": {"image_size": {"crop_size": 128}, "train#handlers#2": [{...}]}},
        "delete": {"configs/train.json": ["positional_encoding"]}
    }

``change`` replaces values, ``add`` puts keys, or items of a list, behind the one that it names, ``delete`` takes out;
in this order. An id that is not there is an error, and so is a key to add that is. ``null`` in ``common`` is often the
place of something that every template or task gives.
"""

from __future__ import annotations

import json
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent
BUNDLES = TEMPLATES.parent


def bundle_folders() -> list[Path]:
    """The folders of all bundles."""
    return sorted(path.parent for path in BUNDLES.glob("*/overlay.json"))


def bundle_files(bundle: Path) -> dict[str, str]:
    """The content of every file that is generated for a bundle, by its place in it."""
    overlay = _read_overlay(bundle)
    template = TEMPLATES / overlay["template"]
    files = _files_in(TEMPLATES / "common") | _files_in(template)
    _apply(_read_overlay(template), files, f"_templates/{template.name}/overlay.json")
    _apply(overlay, files, f"{bundle.name}/overlay.json")
    return {name: file if isinstance(file, str) else to_json(file) for name, file in sorted(files.items())}


def to_json(config: Any) -> str:
    """The text of a JSON file."""
    return json.dumps(config, indent=4, ensure_ascii=False) + "\n"


def _read_overlay(folder: Path) -> dict[str, Any]:
    text = (folder / "overlay.json").read_text(encoding="utf-8")
    overlay: dict[str, Any] = json.loads(text, object_pairs_hook=_with_each_key_once)
    unknown = overlay.keys() - {"template", "change", "add", "delete"}
    if unknown or "template" not in overlay:
        raise ValueError(f"{folder.name}/overlay.json: expected template, change, add and delete, got {list(overlay)}.")
    return overlay


def _with_each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a key that is there twice, as after a merge, Python's reader would take the last one."""
    twice = {key for key, _ in pairs if [name for name, _ in pairs].count(key) > 1}
    if twice:
        raise ValueError(f"overlay.json: {', '.join(sorted(twice))} is there twice in one place; put the two together.")
    return dict(pairs)


def _files_in(folder: Path) -> dict[str, Any]:
    """The files of a template by name: JSON files as what they hold, others as text."""
    files: dict[str, Any] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != "overlay.json":
            text = path.read_text(encoding="utf-8")
            files[name] = json.loads(text) if path.suffix == ".json" else text
    return files


def _apply(overlay: dict[str, Any], files: dict[str, Any], place: str) -> None:
    """Change the files as the overlay says; ``place`` is named in errors."""
    for action in ("change", "add", "delete"):
        for file, changes in overlay.get(action, {}).items():
            if not isinstance(files.get(file), dict):
                raise ValueError(f"{place}: {action} names {file}, which is no JSON file of the template.")
            for key in changes:
                try:
                    parent, name = _find(files[file], key)
                    if action == "change":
                        parent[name] = changes[key]
                    elif action == "add":
                        _add_behind(parent, name, changes[key])
                    else:
                        del parent[name]
                except ValueError as error:
                    raise ValueError(f"{place}: {action} {key} in {file}: {error}") from None


def _find(config: Any, key: str) -> tuple[Any, Any]:
    """The dictionary or list that holds a key, and the key or number in it; a file's own keys may hold a "#", too."""
    rest = key.split("#")
    while True:
        if isinstance(config, list):
            name: Any = int(rest[0]) if rest[0].isdigit() else rest[0]
            known, length = list(range(len(config))), 1
        else:
            known = list(config) if isinstance(config, dict) else []
            length = next((end for end in range(len(rest), 0, -1) if "#".join(rest[:end]) in known), len(rest))
            name = "#".join(rest[:length])
        if name not in known:
            near = get_close_matches(str(name), map(str, known), 1) or known
            raise ValueError(f"there is no {name!r}; there is {', '.join(map(str, near)) or 'nothing in it'}.")
        if length == len(rest):
            return config, name
        config, rest = config[name], rest[length:]


def _add_behind(parent: Any, name: Any, new: Any) -> None:
    """Put the entries of ``new`` behind the one called ``name``."""
    if type(parent) is not type(new):
        raise ValueError(f"expected a {type(parent).__name__} of what comes behind it, got {new!r}.")
    if isinstance(parent, list):
        parent[name + 1 : name + 1] = new
        return
    known = parent.keys() & new.keys()
    if known:
        raise ValueError(f"{', '.join(sorted(known))} is there already; change it.")
    behind = {key: parent.pop(key) for key in list(parent)[list(parent).index(name) + 1 :]}
    parent.update(new | behind)


def main(arguments: list[str]) -> int:
    """Write the files, or with --check compare them."""
    outdated = []
    for bundle in bundle_folders():
        for name, text in bundle_files(bundle).items():
            path = bundle / name
            if path.is_file() and path.read_text(encoding="utf-8") == text:
                continue
            outdated.append(f"{bundle.name}/{name}")
            if "--check" not in arguments:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    done = "out of date" if "--check" in arguments else "written"
    print(f"{len(outdated)} files {done}", *outdated, sep="\n  ")
    return 1 if outdated and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
