# SPDX-License-Identifier: Apache-2.0
"""``publish``: a bundle and its weights as a repository of the Hugging Face Hub."""

from __future__ import annotations

import argparse

from .settings import add_set_option, read_setting

__all__ = ["add_parser"]


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Describe the command to the parser of the command line."""
    text = "push a bundle with trained weights to the Hugging Face Hub, where MONAI downloads it from"
    parser = commands.add_parser("publish", help=text, description=text)
    parser.add_argument("bundle", help="folder of the bundle")
    parser.add_argument("repo", help="OWNER/NAME of the repository, which is made where there is none")
    parser.add_argument("--weights", required=True, help="what training wrote as model.pt")
    parser.add_argument("--evaluation", help="folder that an evaluation of these weights wrote to: scores for the card")
    text = "make a value the default of the bundle: those that the training was given, such as variant=small"
    add_set_option(parser, f"{text} or image_size=256")
    parser.add_argument("--public", action="store_true", help="show a new repository to everybody, not to you alone")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from ..bundle import publish_bundle

    settings = dict(map(read_setting, args.settings))
    done = publish_bundle(args.bundle, args.repo, args.weights, args.evaluation, settings, not args.public)
    download = f"python -m monai.bundle download --name {done.name} --source huggingface_hub --repo {done.repo}"
    print(f"{done.repo}: version {done.version}. Where this package is installed, others get and run it so:")
    print(f"  {download} --version {done.version} --bundle_dir .")
    print(f"  cd {done.name}")
    print("  python -m monai.bundle run inference --config_file configs/inference.json --dataset_dir SCANS")
    if not done.is_latest:
        print("A later version is there: without --version, that one is downloaded.")
    return 0
