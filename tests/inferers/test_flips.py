# SPDX-License-Identifier: Apache-2.0
"""Averages over mirror images, against a plain computation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data import MetaTensor

from monai_sam2adapter.inferers import ResizeInferer, VolumeSliceInferer


@pytest.fixture
def network() -> torch.nn.Module:
    """Sees left from right: its kernel has no symmetry."""
    return torch.nn.Conv2d(1, 3, kernel_size=3, padding=1)


@torch.no_grad()
def test_softmax_gives_the_mean_probabilities(network: torch.nn.Module) -> None:
    image = torch.randn(2, 1, 7, 5)
    logits = ResizeInferer(flips=[[0], [1, 0]])(image, network)
    parts = [network(image), network(image.flip(2)).flip(2), network(image.flip(2, 3)).flip(2, 3)]
    expected = torch.stack([part.softmax(1) for part in parts]).mean(0)
    torch.testing.assert_close(logits.softmax(1), expected)
    assert (expected - parts[0].softmax(1)).abs().max() > 1e-2


@torch.no_grad()
def test_sigmoid_gives_the_mean_probability_of_one_channel() -> None:
    image, network = torch.randn(1, 1, 7, 5), torch.nn.Conv2d(1, 1, kernel_size=3, padding=1)
    logits = ResizeInferer(flips=[[1]])(image, network)
    expected = (network(image).sigmoid() + network(image.flip(3)).flip(3).sigmoid()) / 2
    torch.testing.assert_close(logits.sigmoid(), expected)


@torch.no_grad()
def test_what_is_mirrored_comes_out_mirrored(network: torch.nn.Module) -> None:
    volume = MetaTensor(torch.randn(1, 1, 7, 5, 4), affine=torch.diag(torch.tensor([2.0, 3, 4, 1])))
    inferer = VolumeSliceInferer(batch_size=3, flips=[[0], [1], [0, 1], [2]])
    logits = inferer(volume, network)
    assert isinstance(logits, MetaTensor)
    torch.testing.assert_close(logits.affine, volume.affine)
    # [2] swaps slices, which the network does not see: their mean is no longer alike under flips of the other axes
    axes = VolumeSliceInferer(flips=[[0], [1], [0, 1]])
    torch.testing.assert_close(axes(volume.flip(2), network), axes(volume, network).flip(2), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("slice_axis", [-3, 1, 2])
def test_flips_are_along_the_axes_of_the_volume(slice_axis: int) -> None:
    volume, network = torch.randn(1, 2, 7, 5, 4), torch.nn.Conv2d(6, 3, kernel_size=3, padding=1)
    options = {"spatial_size": 8, "batch_size": 3, "slice_axis": slice_axis, "num_neighbors": 1}
    plain = VolumeSliceInferer(**options)
    for axis in range(3):
        mirrored = plain(volume.flip(2 + axis), network).flip(2 + axis)
        expected = (plain(volume, network).softmax(1) + mirrored.softmax(1)) / 2
        logits = VolumeSliceInferer(**options, flips=[[axis]])(volume, network)
        torch.testing.assert_close(logits.softmax(1), expected)
        assert (expected - plain(volume, network).softmax(1)).abs().max() > 1e-2


@torch.no_grad()
def test_certain_and_half_precision_logits_stay_finite() -> None:
    def network(image: torch.Tensor) -> torch.Tensor:
        return torch.cat([image * 1000, image * -1000], dim=1).half()

    logits = ResizeInferer(flips=[[0]])(torch.ones(1, 1, 4, 4), network)
    assert logits.isfinite().all()
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("broken", [float("inf"), float("-inf"), float("nan")])
def test_logits_that_are_no_numbers_are_not_averaged_away(classes: int, broken: float) -> None:
    """Whoever makes a segmentation of them refuses NaN; a sigmoid would make 0 or 1 of infinite ones."""

    def network(images: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(images), classes, *images.shape[2:])
        logits[:, 0, 2, 3] = broken
        return logits

    found = ResizeInferer(flips=[[0]])(torch.zeros(1, 1, 8, 8), network)
    assert found[:, :, 2, 3].isnan().any()


def test_without_flips_it_is_the_image_alone(network: torch.nn.Module) -> None:
    image = torch.randn(1, 1, 7, 5)
    assert torch.equal(ResizeInferer()(image, network), network(image))


@pytest.mark.parametrize("flips", [[0, 1], [[0, 0]], [[]], [[3]], [[-1]], "[[0]]", 1, [["0"]]])
def test_malformed_flips_are_refused(flips: Any) -> None:
    with pytest.raises(ValueError, match="flips must be lists of spatial axes"):
        ResizeInferer(flips=flips)


def test_flips_that_cannot_be_are_refused(network: torch.nn.Module) -> None:
    with pytest.raises(ValueError, match="mirror image twice"):
        ResizeInferer(flips=[[0, 1], [1, 0]])
    with pytest.raises(ValueError, match="axis 2, but ResizeInferer takes images with the spatial axes 0 and 1"):
        ResizeInferer(flips=[[0], [1, 2]])
    VolumeSliceInferer(flips=[[2]])
