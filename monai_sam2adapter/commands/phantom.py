# SPDX-License-Identifier: Apache-2.0
"""``phantom``: a small synthetic data set."""

from __future__ import annotations

import argparse

__all__ = ["add_parser"]


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Describe the command to the parser of the command line."""
    text = "write a small synthetic data set in the layout of the real one"
    parser = commands.add_parser("phantom", help=text, description=text)
    parser.add_argument("data_set", choices=["acdc"], help="which data set to imitate")
    parser.add_argument("output_dir", help="folder to write, absent or empty; the same phantoms in it are kept")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random numbers (%(default)s)")
    parser.add_argument("--train", type=int, default=20, help="patients to train on (%(default)s, 70 at most)")
    parser.add_argument("--val", type=int, default=5, help="patients to validate on (%(default)s, 10 at most)")
    parser.add_argument("--test", type=int, default=5, help="patients to test on (%(default)s, 20 at most)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from ..data import write_acdc_phantom

    written = write_acdc_phantom(args.output_dir, args.train, args.val, args.test, args.seed)
    print(f"{args.output_dir}: {'phantoms written' if written else 'the same phantoms are there already'}")
    return 0
