# SPDX-License-Identifier: Apache-2.0
"""``download``: the official weights of SAM 2."""

from __future__ import annotations

import argparse

__all__ = ["add_parser"]


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Describe the command to the parser of the command line."""
    text = "download an official SAM 2 or SAM 2.1 checkpoint and check it"
    parser = commands.add_parser("download", help=text, description=text)
    parser.add_argument("name", help="such as sam2.1_hiera_tiny, or small, base_plus, large; sam2_hiera_tiny and so on")
    parser.add_argument("directory", nargs="?", help="folder to put it in; PyTorch's folder of weights if left out")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from ..networks.weights import download_sam2_checkpoint

    print(download_sam2_checkpoint(args.name, args.directory))
    return 0
