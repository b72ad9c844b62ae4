# SPDX-License-Identifier: Apache-2.0
"""
The share of a training step that is spent waiting for data, with the loader of the ACDC bundle, as a table.

A step is the bundle's own on ``--device``. With ``--step_ms`` it takes that long in place of the network, without any
work of the processor, as a step on a GPU does: how fast a GPU may be before it waits. Waiting is what ignite's
``BasicTimeProfiler`` counts as data flow. With ``--device_transforms`` worker processes only draw, and the time that
the transforms take on the device is a part of the step.

    python benchmarks/data_wait.py --dataset_dir ACDC --step_ms 20 40
    python benchmarks/data_wait.py --dataset_dir ACDC --device cuda
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from ignite.handlers import BasicTimeProfiler
from monai.bundle import ConfigParser
from monai.engines import SupervisedTrainer
from timing import add_machine_arguments, machine_header

BUNDLE = Path(__file__).parents[1] / "bundles" / "acdc_cardiac_segmentation"
COLUMNS = "{:>10} {:>8} {:>18} {:>10} {:>12} {:>10} {:>10}"


def main() -> None:
    """Print one line for each number of workers, with random transforms on items and on the device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", required=True, help="folder of ACDC, or of its phantoms")
    parser.add_argument("--workers", type=int, nargs="+", default=(2, 8), help="processes (default: %(default)s)")
    parser.add_argument("--step_ms", type=float, nargs="+", default=(0,), help="of a step (default: the network's)")
    parser.add_argument("--batch_size", type=int, default=8, help="slices of a step (default: %(default)s)")
    parser.add_argument("--volumes", type=int, default=80, help="volumes of an epoch (default: %(default)s)")
    add_machine_arguments(parser)
    arguments = parser.parse_args()
    print(machine_header(torch.device(arguments.device), arguments.threads))
    print(COLUMNS.format("step", "workers", "random transforms", "ms a step", "ms waiting", "share", "slices/s"))
    for step in arguments.step_ms:
        for workers in arguments.workers:
            for on_device in (False, True):
                wait, total = measure(arguments, step / 1000, workers, on_device)
                print(
                    COLUMNS.format(
                        f"{step:.0f} ms" if step else "network",
                        workers,
                        "device" if on_device else "items",
                        f"{1000 * total:.1f}",
                        f"{1000 * wait:.1f}",
                        f"{100 * wait / total:.1f} %",
                        f"{arguments.batch_size / total:.0f}",
                    ),
                    flush=True,
                )


def measure(arguments: argparse.Namespace, step: float, workers: int, on_device: bool) -> tuple[float, float]:
    """Seconds of waiting, and of all, a step; the first epoch, in which processes start, does not count."""
    config = ConfigParser()
    config.read_config(str(BUNDLE / "configs" / "train.json"))
    config.update(
        {
            "bundle_root": str(BUNDLE),
            "dataset_dir": arguments.dataset_dir,
            "device": f"$torch.device('{arguments.device}')",
            "num_workers": workers,
            "batch_size": arguments.batch_size,
            "device_transforms": on_device,
            "sam2_checkpoint": "random",
            "epochs": 2,
            "train#handlers": [],
        }
    )
    config["train#dataset#data"] = config.get_parsed_content("train#dataset#data")[: arguments.volumes]
    trainer: Any = config.get_parsed_content("train#trainer")
    if step:
        trainer._process_function = lambda engine, batch: sleep_instead(engine, batch, step)
    profiler = BasicTimeProfiler()
    profiler.attach(trainer)
    trainer.run()
    wait, work = (times[len(times) // 2 :] for times in (profiler.dataflow_times, profiler.processing_times))
    return wait.mean().item(), (wait + work).mean().item()


def sleep_instead(engine: SupervisedTrainer, batch: Any, step: float) -> dict[str, Any]:
    """A step whose network takes no time of the processor."""
    end = time.perf_counter() + step
    engine.prepare_batch(batch, engine.state.device)
    time.sleep(max(0.0, end - time.perf_counter()))
    return {"loss": torch.zeros(())}


if __name__ == "__main__":
    main()
