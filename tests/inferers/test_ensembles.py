# SPDX-License-Identifier: Apache-2.0
"""Averages over several networks, against a plain computation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.inferers import SimpleInferer
from scipy.stats import entropy

from monai_sam2adapter.engines import PipelinedEvaluator
from monai_sam2adapter.inferers import ResizeInferer, VolumeSliceInferer
from monai_sam2adapter.transforms import SegmentLogitsd


def networks(channels: int, classes: int, number: int = 3) -> torch.nn.ModuleList:
    torch.manual_seed(1)
    return torch.nn.ModuleList(torch.nn.Conv2d(channels, classes, 3, padding=1) for _ in range(number))


@torch.no_grad()
@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("flips", [[], [[0], [1, 2]]], ids=["plain", "mirrored"])
def test_probabilities_are_the_mean_of_those_of_each_network(classes: int, flips: list[list[int]]) -> None:
    volume, members = MetaTensor(torch.randn(1, 2, 9, 7, 5)), networks(6, classes)
    inferer = VolumeSliceInferer(spatial_size=8, batch_size=2, num_neighbors=1, flips=flips)

    def chance(network: Any) -> torch.Tensor:
        logits = inferer(volume, network)
        return logits.sigmoid() if classes == 1 else logits.softmax(1)

    each = torch.stack([chance(member) for member in members])
    torch.testing.assert_close(chance(members), each.mean(0))
    assert (chance(members) - each[0]).abs().max() > 1e-2
    torch.testing.assert_close(chance([members[0], members[0]]), each[0])
    assert torch.equal(inferer(volume, [members[0]]), inferer(volume, members[0]))


@torch.no_grad()
def test_uncertainty_is_how_far_the_members_disagree() -> None:
    image, members = torch.randn(1, 1, 9, 7), networks(1, 4)
    inferer = ResizeInferer(postprocessing=SegmentLogitsd("pred", probabilities=True, uncertainty=True))
    found = inferer(image, members)
    assert found.keys() == {"pred", "probabilities", "uncertainty"}
    each = torch.stack([member(image).softmax(1) for member in members])
    torch.testing.assert_close(found["probabilities"], each.mean(0))
    within = entropy(each.numpy(), axis=2).mean(0)
    expected = torch.as_tensor(entropy(each.mean(0).numpy(), axis=1) - within)[:, None] / math.log(4)
    torch.testing.assert_close(found["uncertainty"], expected, atol=1e-5, rtol=1e-4)
    assert found["uncertainty"].max() > 0.05
    # who always agrees may be unsure, and does not disagree
    assert inferer(image, [members[0], members[0]])["uncertainty"].max() < 1e-6
    assert inferer(image, members[0])["uncertainty"].max() > 0.5


@torch.no_grad()
def test_a_broken_member_is_not_averaged_away() -> None:
    broken = torch.nn.Conv2d(1, 4, 1)
    broken.weight.fill_(math.nan)
    with pytest.raises(ValueError, match="NaN or infinite"):
        ResizeInferer(postprocessing=SegmentLogitsd("pred"))(torch.randn(1, 1, 4, 4), [networks(1, 4)[0], broken])


def evaluator(network: torch.nn.Module, inferer: Any, **options: Any) -> PipelinedEvaluator:
    items = Dataset([{"image": torch.randn(1, 6, 5, generator=torch.Generator().manual_seed(2))}])
    return PipelinedEvaluator(
        device=torch.device("cpu"), val_data_loader=DataLoader(items), network=network, inferer=inferer, **options
    )


def test_the_evaluator_runs_every_member_compiled_or_not() -> None:
    members, outputs = networks(1, 4), []
    for options in ({}, {"compile": True, "compile_kwargs": {"backend": "eager"}}):
        engine = evaluator(members, ResizeInferer(), **options)
        engine.run()
        assert [member._compiled_call_impl is not None for member in members] == [bool(options)] * 3
        outputs.append(engine.state.output[0]["pred"])
        image = engine.state.output[0]["image"]
    with torch.no_grad():
        expected = torch.stack([member(image[None])[0].softmax(0) for member in members]).mean(0)
    for output in outputs:
        torch.testing.assert_close(output.softmax(0), expected)


def test_an_inferer_that_cannot_average_is_refused_before_the_work() -> None:
    with pytest.raises(ValueError, match="a SimpleInferer runs one network, but there is an ensemble of 3"):
        evaluator(networks(1, 4), SimpleInferer())
