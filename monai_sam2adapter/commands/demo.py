# SPDX-License-Identifier: Apache-2.0
"""``demo``: the whole way on synthetic data: phantoms, training, evaluation, inference, all by MONAI's command line."""

from __future__ import annotations

import argparse
import csv
import os
import shlex
import subprocess
import sys
from pathlib import Path

__all__ = ["add_parser", "run_demo"]

# SAM 2's weights are a download that needs the user, so the demo adapts a trunk of random weights, on small images.
# LW-Adapters learn these phantoms on it sooner than the whole network learns them from scratch.
# The phantoms' hearts are turned by little and never mirrored, and learning more takes longer than a demo should.
_NUM_TRAIN = 40
_TRAINING = {
    "sam2_checkpoint": "random",
    "learning_rate": 0.001,
    "epochs": 8,
    "val_interval": 2,
    "num_workers": 0,
    "train#preprocessing#transforms#1#rotate_range": 0.3,
    "train#preprocessing#transforms#2#prob": 0.0,
}
_NETWORK = {"variant": "tiny", "adapter": "lw", "image_size": 96, "batch_size": 8}


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Describe the command to the parser of the command line."""
    text = "train, evaluate and predict on synthetic data with the ACDC bundle, in a few minutes and without a download"
    parser = commands.add_parser("demo", help=text, description=text)
    parser.add_argument("--bundle_root", default="bundles/acdc_cardiac_segmentation", help="the bundle (%(default)s)")
    parser.add_argument("--output_dir", default="demo_output", help="folder for all results (%(default)s)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    run_demo(args.bundle_root, args.output_dir)
    return 0


def run_demo(bundle_root: str | os.PathLike[str], output_dir: str | os.PathLike[str]) -> None:
    """
    Write phantoms, train on them, evaluate, segment volumes without labels, and print what came out and where it is.

    Args:
        bundle_root: the folder of the ACDC bundle.
        output_dir: folder for everything that is written. What an earlier demo wrote there is replaced.

    Raises:
        FileNotFoundError: when ``bundle_root`` is not the bundle.
        RuntimeError: when one of the commands fails.
    """
    from ..data import write_acdc_phantom

    bundle, output = Path(bundle_root), Path(output_dir)
    configs = bundle / "configs"
    if not (configs / "train.json").is_file():
        raise FileNotFoundError(
            f"no bundle in {bundle}: run the demo in a checkout of the project, or name the bundle by --bundle_root."
        )
    dataset, models, evaluation, prediction = (output / name for name in ("acdc", "models", "eval", "prediction"))
    write_acdc_phantom(dataset, num_train=_NUM_TRAIN)
    common = {"logging_file": configs / "logging.conf", "bundle_root": bundle, "dataset_dir": dataset, **_NETWORK}
    trained = {"checkpoint_file": models / "model.pt"}

    train, evaluate, infer = (str(configs / f"{name}.json") for name in ("train", "evaluate", "inference"))
    _run_bundle("training", train, {**common, **_TRAINING, "output_dir": models, "overwrite": True})
    _run_bundle("evaluating", f"{[train, evaluate]}", {**common, **trained, "output_dir": evaluation})
    unseen = dataset / "training" / "patient017"
    _run_bundle("inference", infer, {**common, **trained, "dataset_dir": unseen, "output_dir": prediction})
    _print_results(models, evaluation, prediction)


def _run_bundle(run_id: str, config_file: str, options: dict[str, object]) -> None:
    """Run one of the bundle's ids as a user would, and show the command."""
    command = ["-m", "monai.bundle", "run", run_id, "--config_file", config_file]
    for key, value in options.items():
        command += [f"--{key}", str(value)]
    print(f"\n$ python {shlex.join(command)}", flush=True)
    # MONAI warns of untrusted configs at each start; these are our own.
    done = subprocess.run([sys.executable, "-W", "ignore::UserWarning", *command], check=False)
    if done.returncode:
        raise RuntimeError(
            f"the command above failed with exit code {done.returncode}; the reason stands above MONAI's last lines, "
            "which begin with 'Failed to'."
        )


def _print_results(models: Path, evaluation: Path, prediction: Path) -> None:
    with (evaluation / "summary.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "dice"]
    print("\nDice on phantoms that were not trained on:")
    for row in rows:
        print(f"  {row['class']:<16} {float(row['mean']):.3f}")
    places = {
        "weights": models / "model.pt",
        "logs": f"{models / 'tensorboard'} (tensorboard --logdir {models / 'tensorboard'})",
        "results": f"{evaluation / 'cases.csv'} and {evaluation / 'summary.csv'}",
        "pictures": evaluation / "overlays",
        "predictions": prediction,
    }
    for name, place in places.items():
        print(f"{name + ':':<12} {place}")
