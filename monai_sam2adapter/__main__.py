# SPDX-License-Identifier: Apache-2.0
"""The command line: ``python -m monai_sam2adapter COMMAND``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

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
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m monai_sam2adapter",
        description="SAM 2 adapted to prompt-free segmentation of medical images. Training, evaluation and inference "
        "run through MONAI: python -m monai.bundle run ...",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    _add_check(commands)
    _add_phantom(commands)
    _add_download(commands)
    _add_demo(commands)
    return parser


def _add_check(commands: argparse._SubParsersAction) -> None:
    text = "check a data set: print what it holds and every problem; exit code 1 if there is any"
    parser = commands.add_parser("check", help=text, description=text)
    parser.add_argument("data_set", choices=["acdc"], help="which data set it is")
    parser.add_argument("dataset_dir", help="its folder, in the layout of the official archive")
    parser.add_argument("--split_file", help="own split, a JSON file; the one in the package if left out")
    parser.set_defaults(run=_check)


def _add_phantom(commands: argparse._SubParsersAction) -> None:
    text = "write a small synthetic data set in the layout of the real one"
    parser = commands.add_parser("phantom", help=text, description=text)
    parser.add_argument("data_set", choices=["acdc"], help="which data set to imitate")
    parser.add_argument("output_dir", help="folder to write, absent or empty; the same phantoms in it are kept")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random numbers (%(default)s)")
    parser.add_argument("--train", type=int, default=20, help="patients to train on (%(default)s, 70 at most)")
    parser.add_argument("--val", type=int, default=5, help="patients to validate on (%(default)s, 10 at most)")
    parser.add_argument("--test", type=int, default=5, help="patients to test on (%(default)s, 20 at most)")
    parser.set_defaults(run=_phantom)


def _add_download(commands: argparse._SubParsersAction) -> None:
    text = "download an official SAM 2 or SAM 2.1 checkpoint and check it"
    parser = commands.add_parser("download", help=text, description=text)
    parser.add_argument("name", help="such as sam2.1_hiera_tiny, or small, base_plus, large; sam2_hiera_tiny and so on")
    parser.add_argument("directory", nargs="?", help="folder to put it in; PyTorch's folder of weights if left out")
    parser.set_defaults(run=_download)


def _add_demo(commands: argparse._SubParsersAction) -> None:
    text = "train, evaluate and predict on synthetic data with the ACDC bundle, in a few minutes and without a download"
    parser = commands.add_parser("demo", help=text, description=text)
    parser.add_argument("--bundle_root", default="bundles/acdc_cardiac_segmentation", help="the bundle (%(default)s)")
    parser.add_argument("--output_dir", default="demo_output", help="folder for all results (%(default)s)")
    parser.set_defaults(run=_demo)


# the commands import what they need themselves: help and errors of the command line then come at once


def _check(args: argparse.Namespace) -> int:
    from .data import check_acdc, format_report

    report = check_acdc(args.dataset_dir, args.split_file)
    print(format_report(report))
    return 1 if report.problems else 0


def _phantom(args: argparse.Namespace) -> int:
    from .data import write_acdc_phantom

    written = write_acdc_phantom(args.output_dir, args.train, args.val, args.test, args.seed)
    print(f"{args.output_dir}: {'phantoms written' if written else 'the same phantoms are there already'}")
    return 0


def _download(args: argparse.Namespace) -> int:
    from .networks.weights import download_sam2_checkpoint

    print(download_sam2_checkpoint(args.name, args.directory))
    return 0


def _demo(args: argparse.Namespace) -> int:
    from .demo import run_demo

    run_demo(args.bundle_root, args.output_dir)
    return 0


if __name__ == "__main__":
    sys.exit(main())
