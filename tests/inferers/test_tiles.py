# SPDX-License-Identifier: Apache-2.0
"""Windows at full resolution: against MONAI's sliding window called plainly, and networks that see one pixel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer

from monai_sam2adapter.inferers import ResizeInferer, VolumeSliceInferer
from monai_sam2adapter.transforms import SegmentLogitsd


class Network(torch.nn.Module):
    """A small network that knows where in its window a pixel lies, and remembers what it was called with."""

    def __init__(self, in_channels: int = 3, out_channels: int = 2, stride: int = 1) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)
        self.calls: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert type(x) is torch.Tensor
        self.calls.append(tuple(x.shape))
        found = self.conv(x).sin()
        return found + torch.linspace(0, 1, found.shape[-1])


def pointwise(images: torch.Tensor) -> torch.Tensor:
    return torch.cat([images.sum(1, keepdim=True).sin(), images[:, :1] ** 2], dim=1)


def plainly(images: torch.Tensor, network: Any, tile: Any, overlap: float) -> torch.Tensor:
    """MONAI's own sliding window, one window at a time."""
    options = {"mode": "gaussian", "padding_mode": "replicate"}
    return SlidingWindowInferer(tile, 1, overlap, **options)(images, network)


SIZES = [(64, 64), (65, 63), (97, 130), (33, 200), (20, 70), (7, 5), (1, 1)]


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("tile", "overlap"), [(32, 0.25), (64, 0.5), ((32, 48), 0.0)], ids=str)
def test_equals_monais_sliding_window_and_runs_on_full_batches_of_windows(size, tile, overlap) -> None:
    network, images = Network(), torch.randn(2, 3, *size)
    found = ResizeInferer(16, tile=tile, overlap=overlap, batch_size=3)(images, network)
    batches = [shape[0] for shape in network.calls]
    assert {shape[2:] for shape in network.calls} == {tile if isinstance(tile, tuple) else (tile, tile)}
    assert set(batches[:-1]) <= {3}
    torch.testing.assert_close(found, plainly(images, network, tile, overlap), rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_network_that_sees_one_pixel_gives_what_it_gives_of_the_whole_image(size) -> None:
    images = torch.randn(1, 3, *size)
    found = ResizeInferer(tile=32, overlap=0.3)(images, pointwise)
    torch.testing.assert_close(found, pointwise(images), rtol=1e-5, atol=1e-5)
    volume = images[..., None].repeat(1, 1, 1, 1, 3) * torch.tensor([1.0, 2.0, 3.0])
    found = VolumeSliceInferer(tile=32, batch_size=2)(volume, pointwise)
    torch.testing.assert_close(found, pointwise(volume), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_an_image_of_the_size_of_the_tile_is_one_window() -> None:
    network, image = Network(), torch.randn(1, 3, 40, 32)
    found = ResizeInferer(16, tile=(40, 32))(image, network)
    assert network.calls == [(1, 3, 40, 32)]
    torch.testing.assert_close(found, network(image), rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("axis", [-3, 1, 2])
def test_slices_of_volumes_with_their_neighbors(axis: int) -> None:
    volume, network = torch.randn(2, 1, 40, 37, 45), Network(3)
    options = {"slice_axis": axis, "num_neighbors": 1}
    found = VolumeSliceInferer(tile=32, overlap=0.5, batch_size=4, **options)(volume, network)
    assert max(shape[0] for shape in network.calls) == 4

    def windows(slices: torch.Tensor) -> torch.Tensor:
        return plainly(slices, network, 32, 0.5)

    expected = VolumeSliceInferer(batch_size=7, **options)(volume, windows)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_mirror_images_ensembles_and_maps_are_those_of_the_windows_of_each() -> None:
    image = MetaTensor(torch.randn(1, 3, 50, 41), meta={"filename_or_obj": "a.png"})
    members = [Network(), Network()]
    options = {"flips": [[0], [0, 1]], "postprocessing": SegmentLogitsd("pred", True, True)}
    found = ResizeInferer(tile=32, **options)(image, members)
    # the same averages of networks that are windows themselves
    windows = [lambda batch, member=member: plainly(batch, member, 32, 0.25) for member in members]
    expected = ResizeInferer(**options)(image, windows)
    assert found.keys() == expected.keys() == {"pred", "probabilities", "uncertainty"}
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)
        assert value.meta["filename_or_obj"] == "a.png"


@torch.no_grad()
def test_a_coarser_output_is_resized_to_the_window() -> None:
    assert ResizeInferer(tile=32)(torch.randn(1, 3, 50, 70), Network(stride=4)).shape == (1, 2, 50, 70)


@torch.no_grad()
def test_without_tile_overlap_and_batch_size_change_no_bit() -> None:
    network, images = Network(), torch.rand(5, 3, 9, 7)
    expected = ResizeInferer(16)(images, network)
    assert torch.equal(ResizeInferer(16, overlap=0.5, batch_size=1)(images, network), expected)
    assert {shape[0] for shape in network.calls} == {5}


@pytest.mark.parametrize("kind", [ResizeInferer, VolumeSliceInferer])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 0}, "tile must be positive, got 0"),
        ({"tile": (32, 32, 32)}, "tile must be one number or two"),
        ({"tile": 32, "overlap": 1.0}, "overlap must be a share of the tile from 0 to below 1, got 1.0"),
        ({"tile": 32, "overlap": -0.1}, "overlap must be a share"),
        ({"tile": 32, "batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_ill_windows_are_refused(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**options)
