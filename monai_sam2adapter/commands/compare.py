# SPDX-License-Identifier: Apache-2.0
"""``compare``: methods side by side on data sets, over seeds."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from types import FrameType

from .settings import add_set_option, read_setting, split_setting

__all__ = ["add_parser"]


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Describe the command to the parser of the command line."""
    text = (
        "train and evaluate methods on data sets over seeds, and write tables and a plot of accuracy over computation; "
        "run it again to go on where it stopped; exit code 1 when a training failed"
    )
    parser = commands.add_parser("compare", help=text, description=text)
    parser.add_argument(
        "--config", required=True, help="a JSON file, or a preset: quick (phantoms, minutes), cross, paper, gsam"
    )
    parser.add_argument("--output_dir", default="comparison_output", help="folder for all results (%(default)s)")
    parser.add_argument(
        "--dataset",
        dest="datasets",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="where a data set of the comparison lies; repeat for more",
    )
    add_set_option(parser, "a key of the bundles for all trainings, such as batch_size=4 or device=cpu")
    parser.add_argument("--seeds", type=int, nargs="+", help="seeds, in the place of the comparison's own")
    parser.add_argument("--jobs", type=int, help="trainings at a time (1 on a GPU, else one a core, 4 at most)")
    parser.add_argument("--bundles_dir", default="bundles", help="folder of the bundles (%(default)s)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from ..comparison import ComparisonConfig, run_comparison

    datasets = dict(split_setting(text, "--dataset", "NAME=FOLDER") for text in args.datasets)
    overrides = dict(map(read_setting, args.settings))
    config = ComparisonConfig.load(args.config).with_arguments(datasets, overrides, args.seeds)
    # what data lists and injections tell of themselves is for a single run
    logging.getLogger("monai_sam2adapter").setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, _stop)  # so that the trainings are ended, too
    try:
        errors = run_comparison(config, args.output_dir, args.bundles_dir, args.jobs, _print)
    except KeyboardInterrupt:
        print("Stopped; run the same command again to go on.", file=sys.stderr)
        return 130
    for cell, reason in errors.items():
        print(f"failed: {cell}: {reason}", file=sys.stderr)
    return 1 if errors else 0


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _print(line: str) -> None:
    print(line, flush=True)
