# SPDX-License-Identifier: Apache-2.0
"""``train_folds``: all folds of a data set by one command."""

from __future__ import annotations

import argparse

from .resumable import run_resumable
from .settings import add_set_option, read_setting

__all__ = ["add_parser"]


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Describe the command to the parser of the command line."""
    text = (
        "train and evaluate a bundle on all folds of a data set, pool the scores of their cases, and say how to "
        "segment by all of them; run it again to go on where it stopped; exit code 1 when a training failed"
    )
    parser = commands.add_parser("train_folds", help=text, description=text)
    parser.add_argument("bundle", help="folder of the bundle")
    parser.add_argument("--dataset_dir", required=True, help="the data set, as the bundle's training takes it")
    parser.add_argument("--output_dir", default="folds", help="folder for all results (%(default)s)")
    parser.add_argument("--folds", type=int, default=5, help="how many the data set has (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all trainings (%(default)s)")
    parser.add_argument("--jobs", type=int, help="trainings at a time (1 on a GPU, else one a core, 4 at most)")
    add_set_option(parser, "a key of the bundle's training, such as sam2_checkpoint=FILE or split_file=acdc_5folds")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from ..comparison import train_folds

    options = dict(map(read_setting, args.settings))
    places = args.bundle, args.dataset_dir, args.output_dir
    return run_resumable(lambda report: train_folds(*places, args.folds, options, args.seed, args.jobs, report))
