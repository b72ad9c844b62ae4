# SPDX-License-Identifier: Apache-2.0
"""``demo``: the whole way on synthetic data."""

from __future__ import annotations

import argparse

__all__ = ["add_parser"]


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Describe the command to the parser of the command line."""
    text = "train, evaluate and predict on synthetic data with the ACDC bundle, in a few minutes and without a download"
    parser = commands.add_parser("demo", help=text, description=text)
    parser.add_argument("--bundle_root", default="bundles/acdc_cardiac_segmentation", help="the bundle (%(default)s)")
    parser.add_argument("--output_dir", default="demo_output", help="folder for all results (%(default)s)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from ..demo import run_demo

    run_demo(args.bundle_root, args.output_dir)
    return 0
