# SPDX-License-Identifier: Apache-2.0
"""
What a training step and an evaluation spend beside the network: ``train()``, a slice from the cache, a scored case.

Slices are those of the ACDC bundle's training, with its random transforms and without; the case is synthetic, with
eight structures, and scored by the seven metrics of the volume bundles. Milliseconds, medians.

    python benchmarks/lean_step.py --dataset_dir ACDC --threads 1
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import Dataset, MetaTensor
from timing import add_machine_arguments, machine_header

from monai_sam2adapter.handlers import CaseScoresHandler
from monai_sam2adapter.networks.nets import PromptFreeSAM2

BUNDLE = Path(__file__).parents[1] / "bundles" / "acdc_cardiac_segmentation"
METRICS = ("dice", "iou", "hd95_mm", "asd_mm", "dice_transunet", "hd95_transunet", "miou_pooled")
SHAPE, SPACING, NUM_CLASSES = (256, 256, 80), (1.0, 1.0, 3.0), 9


def main() -> None:
    """Print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", required=True, help="folder of ACDC, or of its phantoms")
    add_machine_arguments(parser)
    arguments = parser.parse_args()
    print(machine_header(torch.device("cpu"), arguments.threads))
    for variant in ("tiny", "base_plus", "large"):
        network = PromptFreeSAM2(variant, "hp", in_channels=1, out_channels=4)
        print(f"train() of {variant}: {median_ms(network.train, 5 * arguments.repeats):.2f} ms")
    for name, random in (("prepared", False), ("augmented", True)):
        dataset = training_slices(arguments.dataset_dir, random)
        order = iter(np.random.default_rng(0).integers(len(dataset), size=30 * arguments.repeats).tolist())
        each = median_ms(lambda dataset=dataset, order=order: dataset[next(order)], 30 * arguments.repeats)
        print(f"a slice, {name}: {each:.2f} ms")
    prediction, label = synthetic_case()
    print(f"a case scored: {median_ms(lambda: score(prediction, label), arguments.repeats):.0f} ms")


def median_ms(function: Callable[[], object], repeats: int) -> float:
    """Median milliseconds of a call."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def training_slices(dataset_dir: str, random: bool) -> Dataset:
    """The data set of the bundle's training, with or without its random transforms."""
    config = ConfigParser()
    config.read_config(str(BUNDLE / "configs" / "train.json"))
    config.update({"bundle_root": str(BUNDLE), "dataset_dir": dataset_dir})
    if not random:
        transforms = config["train#preprocessing#transforms"]
        config["train#preprocessing#transforms"] = [step for step in transforms if "Rand" not in step["_target_"]]
    return config.get_parsed_content("train#dataset")


def synthetic_case() -> tuple[MetaTensor, MetaTensor]:
    """Eight balls, and a prediction that lies two voxels beside them with some noise; both one-hot."""
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1) * SPACING
    label = np.zeros(SHAPE, dtype=np.int64)
    for number in range(1, NUM_CLASSES):
        center = np.array((40 + 25 * number, 60 + 20 * number, 30 + 24 * number))
        label[((grid - center) ** 2).sum(axis=-1) < (14 + 3 * number) ** 2] = number
    prediction = np.roll(label, (2, 1), axis=(0, 1))
    generator = np.random.default_rng(0)
    noise = generator.random(SHAPE) < 0.0005
    prediction[noise] = generator.integers(NUM_CLASSES, size=noise.sum())
    affine = torch.diag(torch.tensor((*SPACING, 1.0)))
    one_hot = [np.moveaxis(np.eye(NUM_CLASSES, dtype=np.float32)[numbers], -1, 0) for numbers in (prediction, label)]
    return MetaTensor(one_hot[0], affine=affine), MetaTensor(one_hot[1], affine=affine)


def score(prediction: MetaTensor, label: MetaTensor) -> None:
    """All metrics of one case, as an evaluation does it."""
    handler = CaseScoresHandler(METRICS)
    state = SimpleNamespace(output=[{"pred": prediction, "label": label}], metrics={}, metric_details={})
    engine = SimpleNamespace(state=state)
    for step in (handler._start, handler._score, handler._finish):
        step(engine)


if __name__ == "__main__":
    main()
