# SPDX-License-Identifier: Apache-2.0
"""The recipes of docs/training.md: losses that teach what is labelled, and nothing where pixels do not count."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_runs import ACDC, load, parse, train
from monai.bundle import ConfigParser
from monai.losses import DiceLoss, FocalLoss

from monai_sam2adapter.data import write_acdc_phantom

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
FILES = dict(re.findall(r"```json title=(\S+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
LOSSES = {name: json.loads(text) for name, text in FILES.items()}
CAN_IGNORE = {"weights.json", "tversky.json"}


def config_of(name: str | None, **options: Any) -> ConfigParser:
    return parse(ACDC, "train", **(LOSSES[name] if name else {}), **options)


def draw_labels() -> torch.Tensor:
    """A square of each class in two images of 24 x 24."""
    labels = torch.zeros(2, 1, 24, 24)
    for number in (1, 2, 3):
        labels[0, 0, 6 * number : 6 * number + 5, 4:12] = number
        labels[1, 0, 3:9, 6 * number - 4 : 6 * number] = number
    return labels


def learn(loss: Any, labels: torch.Tensor, steps: int = 60) -> tuple[torch.Tensor, list[float]]:
    """Logits that were trained from 0 by a loss, and its values."""
    logits = torch.zeros(2, 4, 24, 24, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    values = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(logits, labels)
        value.backward()
        optimizer.step()
        values.append(value.item())
    return logits.detach(), values


def test_the_page_has_the_recipes() -> None:
    assert {*LOSSES} == {"weights.json", "focal.json", "generalized.json", "tversky.json", "boundary.json"}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_teaches_the_labels(name: str) -> None:
    labels = draw_labels()
    logits, values = learn(config_of(name).get_parsed_content("train#loss"), labels)
    assert (logits.argmax(dim=1, keepdim=True) == labels).float().mean() > 0.999
    assert values[-1] < 0.5 * values[0]


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_teach_nothing_or_are_refused(name: str) -> None:
    labels = draw_labels()
    labels[..., 10:14] = 255
    loss = config_of(name, ignore_label=255).get_parsed_content("train#loss")
    if name not in CAN_IGNORE:
        with pytest.raises((RuntimeError, IndexError)):
            learn(loss, labels, steps=1)
        return
    logits, values = learn(loss, labels)
    assert (logits[..., 10:14] == 0).all()
    counted = labels != 255
    assert ((logits.argmax(dim=1, keepdim=True) == labels) | ~counted)[counted].float().mean() > 0.999
    cut = torch.cat([labels[..., :10], labels[..., 14:]], dim=-1)
    assert loss(torch.zeros(2, 4, 24, 20), cut).item() == pytest.approx(values[0])


def test_what_the_page_says_of_other_losses_and_ignored_pixels() -> None:
    labels = draw_labels()
    labels[..., 12:] = 255
    logits = torch.randn(2, 4, 24, 24, generator=torch.Generator().manual_seed(0))
    arguments = {"ignore_index": 255, "to_onehot_y": True}
    for loss in (DiceLoss(softmax=True, batch=True, **arguments), FocalLoss(use_softmax=True, **arguments)):
        expected = loss(logits[..., :12], labels[..., :12]).item()
        assert loss(logits, labels).item() == pytest.approx(expected, rel=1e-4)


def test_without_weight_decay_and_warm_up_it_is_adam_with_a_cosine() -> None:
    network = torch.nn.Linear(3, 2)
    start = {name: value.clone() for name, value in network.state_dict().items()}
    results = []
    for own in (True, False):
        network.load_state_dict(start)
        if own:
            parser = config_of(None, network=network, epochs=4, learning_rate=0.1)
            optimizer, schedule = (parser.get_parsed_content(f"train#{name}") for name in ("optimizer", "lr_scheduler"))
        else:
            optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
        for _ in range(3):
            optimizer.zero_grad()
            network(torch.ones(1, 3)).square().sum().backward()
            optimizer.step()
            schedule.step()
        results.append(network.weight.detach().clone())
    torch.testing.assert_close(*results)


def test_the_learning_rate_warms_up_by_equal_steps() -> None:
    parser = config_of(
        None, network=torch.nn.Linear(3, 2), epochs=8, learning_rate=1.0, warmup_epochs=3, weight_decay=0.1
    )
    optimizer, schedule = (parser.get_parsed_content(f"train#{name}") for name in ("optimizer", "lr_scheduler"))
    rates = []
    for _ in range(9):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1])
    assert rates[8] == pytest.approx(0)
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert optimizer.param_groups[0]["weight_decay"] == 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_a_bundle_trains_with_it(name: str, tmp_path: Path) -> None:
    write_acdc_phantom(tmp_path / "data", num_train=1, num_val=1, num_test=1, progress=False)
    options = {**LOSSES[name], "train#trainer#epoch_length": 2}
    train(ACDC, tmp_path / "data", tmp_path / "models", **options)
    assert load(tmp_path / "models" / "model.pt")
