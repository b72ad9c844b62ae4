# SPDX-License-Identifier: Apache-2.0
"""
Train PromptFreeSAM2 and MONAI's UNet on a bundle's data from random weights, with the same augmentation and wall time.

Everything but the network is the bundle's: its train.json is run with the network replaced, the learning rate following
a cosine over the elapsed time, and validation counted in. The weights that validate best are evaluated on the test part
with evaluate.json. Folds and methods run in turn in one process.

    python benchmarks/from_scratch.py acdc_cardiac_segmentation --dataset_dir ACDC --minutes 30 --methods full unet
    python benchmarks/from_scratch.py isbi2012_membrane_segmentation --dataset_dir ISBI2012 --folds 0 1 2 --minutes 15

``hp``, ``lw`` and ``none`` train adapters and head on a frozen random trunk: a check that they train, not a result.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import monai
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser

BUNDLES = Path(__file__).parents[1] / "bundles"
UNET = {
    "_target_": "monai.networks.nets.UNet",
    "spatial_dims": 2,
    "channels": [32, 64, 128, 256, 512],
    "strides": [2, 2, 2, 2],
    "num_res_units": 2,
}


def main() -> None:
    """Run the methods and print their table."""
    args = parse_arguments()
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, monai {monai.__version__}, {args.threads} threads, device {args.device}")
    print(f"{args.minutes:g} minutes each at {args.image_size} pixels, batches of {args.batch_size}")
    rows = [run_method(method, fold, args) for fold in args.folds for method in args.methods]
    names = list(rows[0])
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join(str(row[name]) for name in names) + " |")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", choices=sorted(path.parent.name for path in BUNDLES.glob("*/overlay.json")))
    parser.add_argument("--dataset_dir", required=True)
    parser.add_argument("--output_dir", default="runs/from_scratch")
    parser.add_argument("--folds", type=int, nargs="+", default=[0])
    parser.add_argument("--methods", nargs="+", default=["full", "unet"], choices=["full", "unet", "hp", "lw", "none"])
    parser.add_argument(
        "--positional_encoding", default="sam2", help="PEG starts at zero and learns later from scratch"
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--image_size", type=int, default=128)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--learning_rate", type=float, default=5e-4)
    parser.add_argument("--unet_learning_rate", type=float, default=1e-3)
    parser.add_argument("--val_interval", type=int, default=5, help="epochs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def run_method(method: str, fold: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train one method for the given time, evaluate it, and return its row of the table."""
    is_unet = method == "unet"
    bundle = BUNDLES / args.bundle
    output_dir = Path(args.output_dir) / f"{method}_fold{fold}"
    options: dict[str, Any] = {
        "bundle_root": str(bundle),
        "dataset_dir": args.dataset_dir,
        "output_dir": str(output_dir),
        "fold": fold,
        **({} if is_unet else {"adapter": method, "positional_encoding": args.positional_encoding}),
        "image_size": args.image_size,
        "batch_size": args.batch_size,
        "learning_rate": args.unet_learning_rate if is_unet else args.learning_rate,
        "epochs": 100_000,  # the time ends the run
        "val_interval": args.val_interval,
        "num_workers": 0,
        "device": args.device,
        "overwrite": True,
    }
    facts = train(bundle, options, is_unet, 60 * args.minutes)
    scores = {name: f"{value:.3f}" for name, value in evaluate(bundle, options, is_unet, output_dir).items()}
    return {"fold": fold, "method": method, **facts, **scores}


def configure(bundle: Path, names: Sequence[str], options: Mapping[str, Any], is_unet: bool) -> ConfigParser:
    """The bundle's configs with the options, and with MONAI's UNet in place of the network if asked for."""
    parser = ConfigParser()
    parser.read_config([bundle / "configs" / f"{name}.json" for name in names])
    parser.update(dict(options))
    if is_unet:
        channels = {key: parser["network_def"][key] for key in ("in_channels", "out_channels")}
        parser["network_def"] = {**UNET, **channels}
    elif "sam2_checkpoint" in parser and options["adapter"] != "full":
        parser["sam2_checkpoint"] = "random"  # frozen as they were drawn
    return parser


def train(bundle: Path, options: Mapping[str, Any], is_unet: bool, seconds: float) -> dict[str, Any]:
    """Run train.json until the time is over; returns what it trained, and for how long."""
    parser = configure(bundle, ["train"], options, is_unet)
    start = time.perf_counter()
    parser["train"]["lr_scheduler"] = {
        "_target_": "torch.optim.lr_scheduler.LambdaLR",
        "optimizer": "@train#optimizer",
        "lr_lambda": lambda _: 0.5 * (1 + math.cos(math.pi * min((time.perf_counter() - start) / seconds, 1))),
    }
    parser.get_parsed_content("initialize")
    trainer = parser.get_parsed_content("train#trainer")
    evaluator = parser.get_parsed_content("validate#evaluator")

    def stop_in_time(engine: Any) -> None:
        if time.perf_counter() - start > seconds:
            engine.terminate()

    trainer.add_event_handler(Events.ITERATION_COMPLETED, stop_in_time)
    start = time.perf_counter()  # reading the data does not count
    trainer.run()
    if evaluator.state.best_metric_epoch != trainer.state.epoch:
        evaluator.run(trainer.state.epoch)  # the last weights compete with the best ones so far
    trained = sum(p.numel() for p in trainer.network.parameters() if p.requires_grad)
    return {
        "trained parameters": f"{trained / 1e6:.1f} M",
        "iterations": trainer.state.iteration,
        "epochs": trainer.state.epoch,
        "minutes": f"{(time.perf_counter() - start) / 60:.1f}",
    }


def evaluate(bundle: Path, options: Mapping[str, Any], is_unet: bool, output_dir: Path) -> dict[str, float]:
    """Run evaluate.json on the best weights; returns the mean Dice per class, their mean, and the pooled mIoU."""
    options = {**options, "output_dir": str(output_dir / "eval"), "checkpoint_file": str(output_dir / "model.pt")}
    parser = configure(bundle, ["train", "evaluate"], options, is_unet)
    parser.get_parsed_content("validate#evaluator").run()
    results = json.loads((output_dir / "eval" / "results.json").read_text(encoding="utf-8"))
    dice = {row["class"]: row["mean"] for row in results["metrics"]["dice"]["summary"]}
    return {**dice, "miou_pooled": results["pooled"]["miou_pooled"]["summary"][-1]["mean"]}


if __name__ == "__main__":
    main()
