# SPDX-License-Identifier: Apache-2.0
"""A run that was interrupted and resumed gives the same batches, dropout and weights as one that was not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader
from monai.engines import Evaluator, SupervisedTrainer
from monai.transforms import RandFlipd, RandGaussianNoised

from monai_sam2adapter.data import EpochSampler, VolumeSliceDataset
from monai_sam2adapter.handlers import IterationSeedHandler, TrainingCheckpoint


def build(evaluator: Evaluator, workers: int, dropout: float) -> SimpleNamespace:
    """A small training on slices: loader, network and trainer as a bundle builds them; keeps every batch."""
    torch.manual_seed(0)
    volumes = [{"image": torch.rand(1, 6, 6, depth), "label": torch.rand(1, 6, 6, depth).round()} for depth in (3, 4)]
    augmentation = [RandFlipd(["image", "label"], prob=0.5), RandGaussianNoised("image", prob=0.5)]
    dataset = VolumeSliceDataset(volumes, [], augmentation, progress=False)
    loader = DataLoader(
        dataset,
        batch_size=2,
        sampler=EpochSampler(dataset, seed=5),
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.Dropout(dropout), torch.nn.Conv2d(4, 2, 1)
    )
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            parameter.copy_(torch.sin(torch.arange(parameter.numel()) + number).view_as(parameter))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    batches: list[torch.Tensor] = []
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=3,
        train_data_loader=loader,
        network=network,
        optimizer=optimizer,
        loss_function=lambda logits, label: torch.nn.functional.cross_entropy(logits, label[:, 0].long()),
        train_handlers=[IterationSeedHandler(seed=5)],
    )
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda engine: batches.append(engine.state.batch["image"]))
    return SimpleNamespace(
        network=network,
        optimizer=optimizer,
        lr_scheduler=torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
        trainer=trainer,
        evaluator=evaluator,
        batches=batches,
    )


def attach_checkpoint(run: SimpleNamespace, folder: Path, resume: bool = False) -> None:
    parts = {name: value for name, value in vars(run).items() if name != "batches"}
    TrainingCheckpoint(folder, **parts, resume=resume).attach()


def interrupt(engine: Engine) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("workers", [(0, 0), (2, 0)], ids=["0", "2-then-0"])
def test_a_resumed_run_equals_an_uninterrupted_one(evaluator_factory, tiny_network, tmp_path, workers, dropout) -> None:
    evaluator = evaluator_factory(tiny_network)
    whole = build(evaluator, workers=0, dropout=dropout)
    whole.trainer.run()

    first = build(evaluator, workers=workers[0], dropout=dropout)
    attach_checkpoint(first, tmp_path)
    first.trainer.add_event_handler(Events.ITERATION_STARTED(once=6), interrupt)  # of 4 in an epoch
    with pytest.raises(KeyboardInterrupt):
        first.trainer.run()
    torch.rand(7)  # another process has other generators

    second = build(evaluator, workers=workers[1], dropout=dropout)
    attach_checkpoint(second, tmp_path, resume=True)
    second.trainer.run()

    batches = first.batches[:4] + second.batches
    assert len(batches) == len(whole.batches) == 12
    assert all(torch.equal(batch, expected) for batch, expected in zip(batches, whole.batches, strict=True))
    assert not torch.equal(whole.batches[0], whole.batches[4])
    for name, tensor in second.network.state_dict().items():
        assert torch.equal(tensor, whole.network.state_dict()[name]), name


def test_dropout_differs_between_steps_and_seeds() -> None:
    def masks(seed: int) -> list[torch.Tensor]:
        engine = Engine(lambda engine, batch: torch.nn.functional.dropout(torch.ones(64), 0.5))
        IterationSeedHandler(seed).attach(engine)
        found: list[torch.Tensor] = []
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: found.append(engine.state.output))
        engine.run([0, 0], max_epochs=2)
        return found

    first, again, other = masks(0), masks(0), masks(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({tuple(mask.tolist()) for mask in first + other}) == 8


def test_processes_have_different_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    for rank in (0, 1):
        monkeypatch.setattr("ignite.distributed.get_rank", lambda rank=rank: rank)
        engine = Engine(lambda engine, batch: drawn.append(torch.rand(1).item()))
        IterationSeedHandler(0).attach(engine)
        engine.run([0])
    assert drawn[0] != drawn[1]


def test_a_wrong_seed_is_an_error() -> None:
    with pytest.raises(ValueError, match="whole numbers from 0"):
        IterationSeedHandler(-1)
