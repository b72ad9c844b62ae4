# SPDX-License-Identifier: Apache-2.0
"""``pack``: a bundle and its weights as the file that MONAI downloads."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .settings import add_set_option, read_setting

if TYPE_CHECKING:
    from ..bundle import PackedBundle

__all__ = ["add_parser"]


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Describe the command to the parser of the command line."""
    text = "pack a bundle with trained weights into the zip file that `python -m monai.bundle download` takes"
    parser = commands.add_parser("pack", help=text, description=text)
    parser.add_argument("bundle", help="folder of the bundle")
    parser.add_argument("--weights", required=True, help="what training wrote as model.pt")
    text = "make a value the default of the packed bundle: those that the training was given, such as variant=small"
    add_set_option(parser, f"{text} or image_size=256")
    parser.add_argument("--output_dir", default=".", help="folder for the zip file and model_info.json (%(default)s)")
    parser.add_argument("--url", help="where the zip file will be; writes it and the checksum into model_info.json")
    parser.add_argument("--overwrite", action="store_true", help="replace another file of the same version")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from ..bundle import pack_bundle

    settings = dict(map(read_setting, args.settings))
    packed = pack_bundle(args.bundle, args.weights, args.output_dir, args.url, settings, args.overwrite)
    print(_describe(packed, args.url))
    return 0


def _describe(packed: PackedBundle, url: str | None) -> str:
    """What was written and what to do with it."""
    name, version = packed.name, packed.version
    lines = [
        f"{packed.path}: {packed.path.stat().st_size / 1e6:.1f} MB, SHA-1 {packed.checksum}",
        "",
        "To publish it, put it on any server. Where this package is installed, others then get and run it so:",
        f"  python -m monai.bundle download --name {name} --url {url or 'URL_OF_THE_FILE'} --bundle_dir .",
        f"  cd {name}",
        "  python -m monai.bundle run inference --config_file configs/inference.json --dataset_dir SCANS",
        "",
    ]
    if url is None:
        lines.append("Once you know its address, run this again with --url, which adds it to model_info.json.")
    else:
        lines += [
            f"On GitHub, attach it to the release TAG and commit {packed.path.parent / 'model_info.json'} as "
            "models/model_info.json before you set the tag. Then this serves, too:",
            f"  python -m monai.bundle download --name {name} --version {version} --source github "
            "--repo OWNER/NAME/TAG --bundle_dir .",
        ]
    if packed.latest != version:
        lines.append(
            f"MONAI compares versions as text: without --version, {packed.latest} is downloaded and not {version}."
        )
    return "\n".join(lines)
