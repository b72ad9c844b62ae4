# SPDX-License-Identifier: Apache-2.0
"""
Make the bundles: ``python bundles/_templates/generate.py``; with ``--check`` only say which files are not up to date.

Every folder beside ``_templates`` with an ``overlay.json`` is a bundle. Its files are those of ``common`` and of the
template that the overlay names, JSON files changed by the overlay:

    {"template": "volume", "configs/train.json": {"image_size": 256, "train#loss": {...}}, "delete": {...}}

Keys are written as MONAI's ids, ``train#handlers#2``. A value replaces what is there. A new key stands behind its
sibling that the overlay names just before it, else at the end. ``delete`` lists keys to take out, by file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent
BUNDLES = TEMPLATES.parent


def bundle_folders() -> list[Path]:
    """The folders of all bundles."""
    return sorted(path.parent for path in BUNDLES.glob("*/overlay.json"))


def bundle_files(bundle: Path) -> dict[str, str]:
    """The content of every file that is generated for a bundle, by its place in it."""
    overlay = json.loads((bundle / "overlay.json").read_text(encoding="utf-8"))
    deletions = overlay.get("delete", {})
    files: dict[str, str] = {}
    for folder in (TEMPLATES / "common", TEMPLATES / overlay["template"]):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            text = path.read_text(encoding="utf-8")
            if name in overlay or name in deletions:
                config = changed(json.loads(text), overlay.get(name, {}), deletions.get(name, []))
                text = json.dumps(config, indent=4, ensure_ascii=False) + "\n"
            files[name] = text
    unknown = sorted({*overlay, *deletions} - files.keys() - {"template", "delete"})
    if unknown:
        raise ValueError(f"{bundle.name}/overlay.json changes {', '.join(unknown)}, which no template has.")
    return files


def changed(config: dict[str, Any], overlay: Mapping[str, Any], deletions: list[str]) -> dict[str, Any]:
    """A config with the keys of an overlay set and others taken out."""
    for key in deletions:
        parent, name = _parent(config, key)
        del parent[name]
    before = None
    for key, value in overlay.items():
        parent, name = _parent(config, key)
        is_new = isinstance(parent, dict) and name not in parent
        parent[name] = value
        siblings = list(parent) if is_new else []
        if is_new and before is not None and before[0] is parent:
            for later in siblings[siblings.index(before[1]) + 1 : -1]:
                parent[later] = parent.pop(later)
        before = (parent, name)
    return config


def _parent(config: dict[str, Any], key: str) -> tuple[Any, Any]:
    """The dictionary or list that holds a key, and the key or number in it; a file's own keys may hold a "#", too."""
    entry, rest = config, key.split("#")
    while True:
        if isinstance(entry, list):
            here, rest = int(rest[0]), rest[1:]
        else:
            ends = [end for end in range(len(rest), 0, -1) if "#".join(rest[:end]) in entry]
            end = ends[0] if ends else len(rest)
            here, rest = "#".join(rest[:end]), rest[end:]
        if not rest:
            return entry, here
        entry = entry[here]


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
