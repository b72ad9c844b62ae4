# SPDX-License-Identifier: Apache-2.0
"""``check``: what a data set holds and what is wrong with it."""

from __future__ import annotations

import argparse

__all__ = ["add_parser"]

# the function of monai_sam2adapter.data that checks each data set
_CHECKS = {
    "acdc": "check_acdc",
    "isbi2012": "check_isbi2012",
    "kvasir": "check_kvasir",
    "synapse": "check_synapse",
}


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Describe the command to the parser of the command line."""
    text = "check a data set: print what it holds and every problem; exit code 1 if there is any"
    parser = commands.add_parser("check", help=text, description=text)
    parser.add_argument("data_set", choices=sorted(_CHECKS), help="which data set it is")
    parser.add_argument("dataset_dir", help="its folder, in the layout of the official archive")
    parser.add_argument("--split_file", help="own split or folds, a JSON file; the default of the data set if left out")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from .. import data

    report = getattr(data, _CHECKS[args.data_set])(args.dataset_dir, args.split_file)
    print(data.format_report(report))
    return 1 if report.problems else 0
