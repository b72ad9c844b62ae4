# SPDX-License-Identifier: Apache-2.0
"""``check``: what a data set holds and what is wrong with it."""

from __future__ import annotations

import argparse
import json

__all__ = ["add_parser"]

# the function of monai_sam2adapter.data that checks each data set
_CHECKS = {
    "acdc": "check_acdc",
    "isbi2012": "check_isbi2012",
    "kvasir": "check_kvasir",
    "pairs": "check_pairs",
    "pictures": "check_pictures",
    "synapse": "check_synapse",
    "volumes": "check_volumes",
}


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Describe the command to the parser of the command line."""
    text = "check a data set: print what it holds and every problem; exit code 1 if there is any"
    parser = commands.add_parser("check", help=text, description=text)
    data_sets = parser.add_subparsers(dest="data_set", metavar="DATA_SET", title="data sets", required=True)
    for name, function in _CHECKS.items():
        parser = data_sets.add_parser(name, help=f"check {name}", description=text)
        parser.add_argument(
            "dataset_dir",
            help="its folder, in the layout of the official archive; of volumes and pictures also a datalist",
        )
        parser.add_argument(
            "--split_file", help="own split or folds, a JSON file; the default of the data set if left out"
        )
        parser.set_defaults(run=_run, function=function, options=_add_options(parser, name))


def _add_options(parser: argparse.ArgumentParser, name: str) -> list[str]:
    """Add what one data set takes beside the others' options, and give the names."""
    parser.add_argument("--ignore_label", type=int, help="label that does not count; the data's own if left out")
    if name not in ("pairs", "pictures", "volumes"):
        return ["ignore_label"]
    text = "what masks are called after their images, such as '*_mask', in a folder of each (%(default)s, the same)"
    parser.add_argument("--label_pattern", default="*", help=text)
    if name != "pairs":
        text = "overlapping: a pixel may have several labels (%(default)s: one)"
        parser.add_argument("--label_type", default="exclusive", choices=("exclusive", "overlapping"), help=text)
        return ["label_pattern", "ignore_label", "label_type"]
    parser.add_argument("--task", default="dichotomous", help="whose layout it has (%(default)s)")
    parser.add_argument("--folders", type=json.loads, help='another layout: \'{"train": ["images", "masks"]}\'')
    return ["label_pattern", "ignore_label", "task", "folders"]


def _run(args: argparse.Namespace) -> int:
    from .. import data

    options = {option: getattr(args, option) for option in args.options}
    report = getattr(data, args.function)(args.dataset_dir, args.split_file, **options)
    print(data.format_report(report))
    return 1 if report.problems else 0
