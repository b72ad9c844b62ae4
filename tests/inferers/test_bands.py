# SPDX-License-Identifier: Apache-2.0
"""Bands of a picture give what the windows of the whole picture give."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from monai_sam2adapter.inferers import ResizeInferer, predict_in_bands
from monai_sam2adapter.transforms import SegmentLogitsd


class Network(torch.nn.Module):
    """A network that knows where in its window a pixel lies, so that no window can stand for another."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 3, 5, padding=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = (torch.linspace(0, 1, side) for side in x.shape[-2:])
        return self.conv(x).sin() + rows[:, None] + columns


def in_bands(inferer: ResizeInferer, image: torch.Tensor, networks: Any) -> dict[str, torch.Tensor]:
    size = image.shape[2], image.shape[3]
    asked: list[int] = []

    def read(start: int, stop: int) -> torch.Tensor:
        asked.append(stop - start)
        return image[..., start:stop]

    parts = list(predict_in_bands(inferer, read, size, networks))
    assert inferer.tile is not None
    assert set(asked) == {min(inferer.tile[1], size[1])}
    assert torch.equal(torch.cat([band for band, _ in parts], dim=-1), image)
    return {name: torch.cat([part[name] for _, part in parts], dim=-1) for name in parts[0][1]}


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 2], ids=["network", "ensemble"])
def test_of_classes_that_overlap_sigmoids_are_averaged(count: int) -> None:
    image, networks = torch.randn(1, 3, 33, 32), [Network() for _ in range(count)]
    inferer = ResizeInferer(tile=32, flips=[[0]], overlapping=True)
    found = in_bands(inferer, image, networks)
    torch.testing.assert_close(found["pred"], inferer(image, networks), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("size", [(150, 110), (33, 97), (20, 90), (90, 20), (5, 7), (64, 64)], ids=str)
@pytest.mark.parametrize("options", [{"tile": 32}, {"tile": (48, 32), "overlap": 0.5}, {"tile": 32, "overlap": 0}])
@pytest.mark.parametrize("flips", [[], [[0]]], ids=["plain", "mirrored"])
@pytest.mark.parametrize("count", [1, 2], ids=["network", "ensemble"])
def test_equals_the_windows_of_the_whole_picture(size: Any, options: Any, flips: Any, count: int) -> None:
    image, networks = torch.randn(1, 3, *size), [Network() for _ in range(count)]
    inferer = ResizeInferer(**options, flips=flips)
    found = in_bands(inferer, image, networks if count > 1 else networks[0])
    torch.testing.assert_close(found["pred"], inferer(image, networks), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_equals_the_whole_at_a_size_that_users_have() -> None:
    image, network = torch.randn(1, 3, 1500, 1100), Network()
    inferer = ResizeInferer(tile=256, batch_size=4)
    torch.testing.assert_close(in_bands(inferer, image, network)["pred"], inferer(image, network), rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("flips", [[[1]], [[0], [1], [0, 1]]], ids=str)
def test_all_mirror_images_where_the_windows_fill_the_picture(flips: Any) -> None:
    image, network = torch.randn(1, 3, 80, 32 + 24 * 3), Network()
    inferer = ResizeInferer(tile=32, flips=flips)
    torch.testing.assert_close(in_bands(inferer, image, network)["pred"], inferer(image, network), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_classes_and_maps_of_each_part() -> None:
    image, networks = torch.randn(1, 3, 70, 90), [Network(), Network()]
    inferer = ResizeInferer(tile=32, flips=[[0]], postprocessing=SegmentLogitsd("pred", True, True))
    found, expected = in_bands(inferer, image, networks), inferer(image, networks)
    assert found.keys() == expected.keys() == {"pred", "probabilities", "uncertainty"}
    assert (found["pred"] != expected["pred"]).float().mean() < 1e-3
    for name in ("probabilities", "uncertainty"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)


def test_without_windows_there_are_no_bands() -> None:
    with pytest.raises(ValueError, match="by windows alone; give their size"):
        next(predict_in_bands(ResizeInferer(32), lambda start, stop: torch.zeros(1, 3, 9, 9), (9, 9), Network()))
