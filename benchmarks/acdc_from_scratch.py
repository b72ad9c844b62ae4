# SPDX-License-Identifier: Apache-2.0
"""
Train PromptFreeSAM2 and MONAI's UNet on ACDC from random weights, with the same data, augmentation and wall time.

Everything but the network is the ACDC bundle's: its train.json is run with the network replaced, the learning rate
following a cosine over the elapsed time, and validation counted in. The weights that validate best are evaluated on the
test patients with evaluate.json. Methods run in turn in one process.

    python benchmarks/acdc_from_scratch.py --dataset_dir ACDC --minutes 30 --methods full unet

``hp``, ``lw`` and ``none`` train adapters and head on a frozen random trunk: a check that they train, not a result.
"""

from __future__ import annotations

import argparse
import csv
import logging
import math
import time
from pathlib import Path
from typing import Any

import monai
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser

CONFIGS = Path(__file__).parents[1] / "bundles" / "acdc_cardiac_segmentation" / "configs"
UNET = {
    "_target_": "monai.networks.nets.UNet",
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 4,
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
    rows = [run_method(method, args) for method in args.methods]
    names = list(rows[0])
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join(str(row[name]) for name in names) + " |")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", required=True)
    parser.add_argument("--output_dir", default="runs/acdc_from_scratch")
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


def run_method(method: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train one method for the given time, evaluate it, and return its row of the table."""
    is_unet = method == "unet"
    output_dir = Path(args.output_dir) / method
    options: dict[str, Any] = {
        "bundle_root": str(CONFIGS.parent),
        "dataset_dir": args.dataset_dir,
        "output_dir": str(output_dir),
        "adapter": "none" if is_unet else method,
        "positional_encoding": args.positional_encoding,
        "sam2_checkpoint": "random",
        "image_size": args.image_size,
        "batch_size": args.batch_size,
        "learning_rate": args.unet_learning_rate if is_unet else args.learning_rate,
        "epochs": 100_000,  # the time ends the run
        "val_interval": args.val_interval,
        "num_workers": 0,
        "device": args.device,
        "overwrite": True,
    }
    if is_unet:
        options["network_def"] = UNET
    facts = train(options, 60 * args.minutes)
    scores = {name: f"{value:.3f}" for name, value in evaluate(options, output_dir).items()}
    return {"method": method, **facts, **scores}


def train(options: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Run train.json until the time is over; returns what it trained, and for how long."""
    parser = ConfigParser()
    parser.read_config(CONFIGS / "train.json")
    parser.update(options)
    start = time.perf_counter()
    parser["train"]["lr_scheduler"] = {
        "_target_": "torch.optim.lr_scheduler.LambdaLR",
        "optimizer": "@train#optimizer",
        "lr_lambda": lambda _: 0.5 * (1 + math.cos(math.pi * min((time.perf_counter() - start) / seconds, 1))),
    }
    parser.get_parsed_content("initialize")
    trainer = parser.get_parsed_content("train#trainer")
    evaluator = parser.get_parsed_content("validate#evaluator")
    parser.get_parsed_content("checkpoint").attach()

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


def evaluate(options: dict[str, Any], output_dir: Path) -> dict[str, float]:
    """Run evaluate.json on the best weights; returns the mean Dice per class and their mean."""
    parser = ConfigParser()
    parser.read_config([CONFIGS / "train.json", CONFIGS / "evaluate.json"])
    parser.update({**options, "output_dir": str(output_dir / "eval")})
    network = parser.get_parsed_content("network")
    network.load_state_dict(torch.load(output_dir / "model.pt", weights_only=True))
    parser.get_parsed_content("validate#evaluator").run()
    with (output_dir / "eval" / "summary.csv").open(newline="", encoding="utf-8") as file:
        return {row["class"]: float(row["mean"]) for row in csv.DictReader(file) if row["metric"] == "dice"}


if __name__ == "__main__":
    main()
