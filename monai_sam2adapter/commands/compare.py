# SPDX-License-Identifier: Apache-2.0
"""``compare``: methods side by side on data sets, over seeds, or raced to choose one."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .resumable import run_resumable
from .settings import add_set_option, read_setting, split_setting

if TYPE_CHECKING:
    from ..comparison import ComparisonConfig

__all__ = ["add_parser"]


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Describe the command to the parser of the command line."""
    text = (
        "train and evaluate methods on data sets over seeds, and write tables and a plot of accuracy over computation, "
        "or with --choose race adapters on your data and write the best one's options; run it again to go on where it "
        "stopped; exit code 1 when a training failed"
    )
    parser = commands.add_parser("compare", help=text, description=text)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", help="a JSON file, or a preset: quick (phantoms, minutes), cross, paper, gsam")
    source.add_argument("--bundle", help="with --choose, in the place of --config: the bundle of the one --dataset")
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
    parser.add_argument(
        "--choose", action="store_true", help="race the methods, all adapters if the config names none, by validation"
    )
    parser.add_argument(
        "--macs_budget",
        type=float,
        metavar="GMACS",
        help="with --choose: most multiply-accumulate operations of one image, in 10^9",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from ..comparison import choose_adapter, run_comparison

    config = _read_config(args)

    def work(report: Callable[[str], None]) -> Mapping[str, str]:
        if args.choose:
            return choose_adapter(config, args.output_dir, args.bundles_dir, args.jobs, args.macs_budget, report)
        return run_comparison(config, args.output_dir, args.bundles_dir, args.jobs, report)

    return run_resumable(work)


def _read_config(args: argparse.Namespace) -> ComparisonConfig:
    from ..comparison import ComparisonConfig, adapter_methods

    if not args.choose and (args.bundle is not None or args.macs_budget is not None):
        raise ValueError("--bundle and --macs_budget go with --choose; add it, or leave them out.")
    datasets = dict(split_setting(text, "--dataset", "NAME=FOLDER") for text in args.datasets)
    arguments: dict[str, Any] = {"dataset_dirs": datasets, "overrides": dict(map(read_setting, args.settings))}
    if args.choose:
        arguments["methods"] = adapter_methods()
    if args.seeds is not None:
        arguments["seeds"] = args.seeds
    if args.bundle is None:
        return ComparisonConfig.load(args.config, **arguments)
    if len(datasets) != 1:
        raise ValueError(f"--bundle takes one --dataset NAME=FOLDER, got {len(datasets)}.")
    (name,) = datasets
    content = {"title": f"Adapters on {name}", "seeds": [0], "datasets": {name: {"bundle": args.bundle}}}
    return ComparisonConfig.from_dict(content, **arguments)
