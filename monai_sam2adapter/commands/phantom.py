# SPDX-License-Identifier: Apache-2.0
"""``phantom``: a small synthetic data set."""

from __future__ import annotations

import argparse

__all__ = ["add_parser"]

# for each data set the function of monai_sam2adapter.data, and what it takes as num_train and so on: default and help
_PHANTOMS = {
    "acdc": (
        "write_acdc_phantom",
        [
            ("train", 20, "patients to train on, 70 at most"),
            ("val", 5, "patients to validate on, 10 at most"),
            ("test", 5, "patients to test on, 20 at most"),
        ],
    ),
    "isbi2012": ("write_isbi2012_phantom", [("slices", 12, "slices, 5 to 30")]),
    "kvasir": ("write_kvasir_phantom", [("images", 60, "images, 3 to 1000")]),
    "pairs": (
        "write_pair_phantom",
        [
            ("train", 40, "images to train on"),
            ("val", 8, "images to validate on, where the task has a set for it"),
            ("test", 8, "images in each test set"),
        ],
    ),
    "synapse": (
        "write_synapse_phantom",
        [
            ("train", 8, "cases to train on"),
            ("val", 2, "cases to validate on"),
            ("test", 4, "cases to test on"),
        ],
    ),
}


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Describe the command to the parser of the command line."""
    text = "write a small synthetic data set in the layout of the real one"
    parser = commands.add_parser("phantom", help=text, description=text)
    data_sets = parser.add_subparsers(dest="data_set", metavar="DATA_SET", title="data sets", required=True)
    for name, (function, options) in _PHANTOMS.items():
        text = f"write phantoms in the layout of {name}"
        parser = data_sets.add_parser(name, help=text, description=text)
        parser.add_argument("output_dir", help="folder to write, absent or empty; the same phantoms in it are kept")
        parser.add_argument("--seed", type=int, default=0, help="seed of the random numbers (%(default)s)")
        for option, default, help_text in options:
            parser.add_argument(f"--{option}", type=int, default=default, help=f"{help_text} (%(default)s)")
        if name == "pairs":
            parser.add_argument("--task", default="dichotomous", help="whose layout to write (%(default)s)")
        parser.set_defaults(run=_run, function=function, numbers=[option for option, _, _ in options])


def _run(args: argparse.Namespace) -> int:
    from .. import data

    options = {f"num_{option}": getattr(args, option) for option in args.numbers}
    if "task" in args:
        options["task"] = args.task
    written = getattr(data, args.function)(args.output_dir, seed=args.seed, **options)
    print(f"{args.output_dir}: {'phantoms written' if written else 'the same phantoms are there already'}")
    return 0
