# SPDX-License-Identifier: Apache-2.0
"""Averages over flips and networks of classes that overlap: means of sigmoids, class by class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from monai_sam2adapter.inferers import ResizeInferer, VolumeSliceInferer
from monai_sam2adapter.transforms import SegmentLogitsd


def networks(number: int) -> torch.nn.ModuleList:
    torch.manual_seed(1)
    return torch.nn.ModuleList(torch.nn.Conv2d(1, 3, 3, padding=1) for _ in range(number))


@torch.no_grad()
@pytest.mark.parametrize("dims", [2, 3])
def test_the_mean_of_the_sigmoids_of_mirror_images_and_networks(dims: int) -> None:
    images, members = torch.randn(1, 1, *(8, 6, 4)[:dims]), networks(2)
    kind = ResizeInferer if dims == 2 else VolumeSliceInferer
    plain = kind()
    runs = [
        torch.flip(plain(torch.flip(images, axes), member), axes).sigmoid() for member in members for axes in ([], [2])
    ]
    expected = torch.stack(runs).mean(0)
    found = kind(flips=[[0]], overlapping=True)(images, members).sigmoid()
    torch.testing.assert_close(found, expected)
    assert (kind(flips=[[0]])(images, members).sigmoid() - expected).abs().max() > 1e-2  # a softmax gives other ones


@torch.no_grad()
def test_uncertainty_is_what_the_networks_disagree_in() -> None:
    images, members = torch.randn(1, 1, 8, 6), networks(3)
    finish = SegmentLogitsd("pred", probabilities=True, uncertainty=True, overlapping=True)
    found = ResizeInferer(postprocessing=finish, overlapping=True)(images, members)
    chances = torch.stack([ResizeInferer()(images, member).sigmoid() for member in members]).double().numpy()

    def bits(chance: np.ndarray) -> np.ndarray:
        return entropy(np.stack([chance, 1 - chance]), base=2, axis=0)

    expected = (bits(chances.mean(0)) - bits(chances).mean(0)).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found["uncertainty"], expected, atol=1e-5)
    np.testing.assert_allclose(found["probabilities"], chances.mean(0), atol=1e-5)
    np.testing.assert_array_equal(found["pred"], chances.mean(0) > 0.5)
