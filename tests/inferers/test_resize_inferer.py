# SPDX-License-Identifier: Apache-2.0
"""ResizeInferer: shapes, resizing, metadata and errors."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from monai_sam2adapter.inferers import ResizeInferer
from monai_sam2adapter.transforms import ResizeWithLabelsd


class Network(torch.nn.Module):
    """A small network with random weights and a coarse output that remembers the shapes it was called with."""

    def __init__(self, in_channels: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(in_channels, 2, 3, stride=stride, padding=1)
        self.calls: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
        assert type(x) is torch.Tensor
        self.calls.append(tuple(x.shape))
        return factor * self.conv(x).sin()


@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        pytest.param((1, 3, 9, 7), (16, 12), id="enlarged"),
        pytest.param((2, 1, 40, 21), (8, 16), id="reduced"),
        pytest.param((1, 3, 1, 1), (8, 8), id="one-pixel"),
    ],
)
def test_equals_network_run_behind_the_transform_of_the_data_sets(shape, size, stride) -> None:
    network, images = Network(shape[1], stride), torch.rand(shape)
    with torch.no_grad():
        result = ResizeInferer(size)(images, network)
        resized = torch.stack([ResizeWithLabelsd("image", size)({"image": image})["image"] for image in images])
        logits = network(resized)
        expected = torch.stack([ResizeWithLabelsd("image", shape[2:])({"image": item})["image"] for item in logits])
    assert network.calls[0] == (*shape[:2], *size)
    assert result.shape == (shape[0], 2, *shape[2:])
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)


def test_without_spatial_size_images_keep_theirs() -> None:
    network, images = Network(), torch.rand(2, 3, 9, 7)
    assert torch.equal(ResizeInferer()(images, network), network(images))
    assert network.calls[0] == (2, 3, 9, 7)


def test_extra_arguments_reach_the_network() -> None:
    network, images = Network(), torch.rand(1, 3, 9, 7)
    assert torch.equal(ResizeInferer(8)(images, network, 2.0), 2 * ResizeInferer(8)(images, network))
    assert torch.equal(ResizeInferer(8)(images, network, factor=0.0), torch.zeros(1, 2, 9, 7))


def test_photographs_of_bytes_keep_their_metadata_and_give_float32() -> None:
    affine = torch.diag(torch.tensor([-1.0, 2.0, 1.0, 1.0], dtype=torch.float64))
    values = torch.randint(0, 255, (1, 3, 9, 7), dtype=torch.uint8)
    image = MetaTensor(values, affine=affine, meta={"filename_or_obj": "a.jpg"})
    network = Network()
    result = ResizeInferer(16, output_device="cpu")(image, network)
    assert isinstance(result, MetaTensor)
    assert result.dtype == torch.float32
    assert result.meta["filename_or_obj"] == "a.jpg"
    assert torch.equal(result.affine, affine)
    assert torch.equal(result.as_tensor(), ResizeInferer(16)(values.float(), network))


def test_logits_go_to_output_device() -> None:
    images = torch.rand(1, 3, 4, 4)
    assert ResizeInferer(output_device="meta")(images, Network()).device.type == "meta"
    assert ResizeInferer()(images, Network()).device.type == "cpu"


@pytest.mark.parametrize("shape", [(1, 3, 8, 8, 4), (3, 8, 8), (1, 3, 0, 8)])
def test_input_that_is_no_image_is_refused(shape) -> None:
    message = r"images of shape \(B, C, H, W\).*got \(" + ", ".join(map(str, shape)) + ".*take VolumeSliceInferer"
    with pytest.raises(ValueError, match=message):
        ResizeInferer()(torch.zeros(shape), Network())


@pytest.mark.parametrize(
    ("output", "error", "message"),
    [
        pytest.param(lambda x: [x, x], TypeError, "returned a list, ResizeInferer expects one tensor", id="list"),
        pytest.param(lambda x: x[:1], ValueError, "ResizeInferer expects .* with N = 2", id="images_lost"),
    ],
)
def test_unusable_network_output_is_refused(output, error, message) -> None:
    with pytest.raises(error, match=message):
        ResizeInferer()(torch.rand(2, 3, 4, 4), output)


def test_ill_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"spatial_size must be positive, got \(8, 0\)"):
        ResizeInferer((8, 0))
