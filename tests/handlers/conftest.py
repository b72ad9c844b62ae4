# SPDX-License-Identifier: Apache-2.0
"""Tiny training runs for the tests of the handlers: real MONAI engines, a network of one layer, no randomness."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import IgniteMetricHandler, LrScheduleHandler, ValidationHandler, from_engine
from monai.inferers import SimpleInferer
from monai.metrics import CumulativeIterationMetric
from monai.transforms import AsDiscreted, Compose

from monai_sam2adapter.handlers import TrainingCheckpoint
from monai_sam2adapter.metrics import CaseDiceMetric, CaseHausdorffDistanceMetric, CaseIoUMetric, PooledIoUMetric

N_CLASSES = 3
AFFINE = torch.diag(torch.tensor([1.5, 2.0, 10.0, 1.0], dtype=torch.float64))


def make_volumes(n_cases: int, size: Sequence[int] = (8, 6, 4)) -> list[dict[str, Any]]:
    """Blocks of class 1 and 2 and an image that shows them."""
    generator = torch.Generator().manual_seed(0)
    items = []
    for n in range(n_cases):
        label = torch.zeros(1, *size)
        label[:, 1:4, 1 : 4 + n % 2, 1:3] = 1
        label[:, 4:7, 2:5, 1:3] = 2
        image = label / 2 + 0.1 * torch.rand(label.shape, generator=generator)
        image = MetaTensor(image, AFFINE, {"filename_or_obj": f"/scans/patient{n:03d}.nii.gz"})
        items.append({"image": image, "label": MetaTensor(label, AFFINE)})
    return items


class TinyNetwork(torch.nn.Module):
    """One convolution of a volume, seeded, so that every instance starts the same."""

    def __init__(self, channels: int = N_CLASSES) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = torch.nn.Conv3d(1, channels, 3, padding=1)
            self.norm = torch.nn.BatchNorm3d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))


class CrossEntropy(torch.nn.Module):
    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits, label[:, 0].long())


class ScriptedMetric(CumulativeIterationMetric):
    """A key metric whose value at each validation is given, to steer what counts as the best."""

    def __init__(self, values: Sequence[float]) -> None:
        super().__init__()
        self.values = list(values)

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        return torch.zeros(len(y_pred), 1)

    def aggregate(self) -> torch.Tensor:
        return torch.tensor(self.values.pop(0))


def make_evaluator(network: torch.nn.Module, key_metric: Any = None, **arguments: Any) -> SupervisedEvaluator:
    reader = from_engine(["pred", "label"])
    key_metric = CaseDiceMetric() if key_metric is None else key_metric  # an empty metric is false
    arguments.setdefault("n_cases", 3)
    items = make_volumes(arguments.pop("n_cases"))
    batch_size = arguments.pop("batch_size", 1)
    sampler = arguments.pop("sampler_class", lambda dataset: None)(items)
    return SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(Dataset(items), batch_size=batch_size, sampler=sampler),
        network=network,
        inferer=SimpleInferer(),
        postprocessing=Compose(
            [
                AsDiscreted("pred", argmax=True, to_onehot=N_CLASSES),
                AsDiscreted("label", to_onehot=N_CLASSES, allow_missing_keys=True),
            ]
        ),
        key_val_metric={"dice": IgniteMetricHandler(key_metric, output_transform=reader)},
        additional_metrics={
            "iou": IgniteMetricHandler(CaseIoUMetric(), output_transform=reader),
            "hd95_mm": IgniteMetricHandler(CaseHausdorffDistanceMetric(), output_transform=reader),
            "miou_pooled": IgniteMetricHandler(PooledIoUMetric(), output_transform=reader),
        },
        **arguments,
    )


def make_run(
    epochs: int = 2,
    learning_rate: float = 0.05,
    network: torch.nn.Module | None = None,
    key_metric: Any = None,
    schedule: Callable[[torch.optim.Optimizer, int], Any] | None = None,
    val_interval: int = 1,
    handlers: Sequence[Any] = (),
    **arguments: Any,
) -> SimpleNamespace:
    """Everything of a training run: network, optimizer, lr_scheduler, trainer, evaluator."""
    network = TinyNetwork() if network is None else network
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    make = schedule or (lambda opt, n: torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=n))
    lr_scheduler = make(optimizer, epochs)
    evaluator = make_evaluator(network, key_metric)
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=DataLoader(Dataset(make_volumes(4)), batch_size=2),
        network=network,
        optimizer=optimizer,
        loss_function=arguments.pop("loss_function", CrossEntropy()),
        train_handlers=[
            ValidationHandler(validator=evaluator, interval=val_interval, epoch_level=True),
            LrScheduleHandler(lr_scheduler=lr_scheduler, print_lr=False),
            *handlers,
        ],
        **arguments,
    )
    return SimpleNamespace(
        network=network, optimizer=optimizer, lr_scheduler=lr_scheduler, trainer=trainer, evaluator=evaluator
    )


def attach_checkpoint(run: SimpleNamespace, folder: Path, **flags: Any) -> TrainingCheckpoint:
    """Give the trainer of a run its checkpoints."""
    parts = {name: getattr(run, name) for name in ("network", "optimizer", "lr_scheduler", "evaluator")}
    checkpoint = TrainingCheckpoint(folder, **parts, **flags)
    checkpoint.attach(run.trainer)
    return checkpoint


@pytest.fixture
def checkpoint_of() -> Callable[..., TrainingCheckpoint]:
    return attach_checkpoint


@pytest.fixture
def run_factory() -> Callable[..., SimpleNamespace]:
    return make_run


@pytest.fixture
def evaluator_factory() -> Callable[..., SupervisedEvaluator]:
    return make_evaluator


@pytest.fixture
def tiny_network() -> TinyNetwork:
    return TinyNetwork()


@pytest.fixture
def scripted_metric() -> type[ScriptedMetric]:
    return ScriptedMetric


@pytest.fixture
def run_two_processes() -> Callable[..., list[str]]:
    """Run a script with arguments on two processes, as torchrun would; gives what each has written to stderr."""

    def run(script: str, *arguments: str) -> list[str]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", script, *arguments],
                env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        errors = [process.communicate(timeout=120)[1] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
        return errors

    return run
