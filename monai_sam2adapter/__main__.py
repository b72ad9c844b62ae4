# SPDX-License-Identifier: Apache-2.0
"""The command line: ``python -m monai_sam2adapter COMMAND``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from .commands import check, compare, demo, download, export, pack, phantom, profile, publish, train_folds
from .utils.text import printable

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one command.

    Args:
        argv: what the user typed behind the program's name. Defaults to ``sys.argv``.

    Returns:
        exit code: 0 when all went well, 1 when a check found problems, 2 on an error.
    """
    parser = _build_parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        return args.run(args)
    # what users can mend; anything else is a mistake of ours and keeps its traceback
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        print(f"error: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        return 2


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m monai_sam2adapter",
        description="SAM 2 adapted to prompt-free segmentation of medical images. Training, evaluation and inference "
        "run through MONAI: python -m monai.bundle run ...",
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    # each imports what it needs when it runs: help and errors of the command line then come at once
    for command in (check, phantom, download, demo, pack, publish, export, profile, compare, train_folds):
        command.add_parser(subparsers)
    return parser


if __name__ == "__main__":
    sys.exit(main())
