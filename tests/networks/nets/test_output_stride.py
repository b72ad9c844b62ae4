# SPDX-License-Identifier: Apache-2.0
"""``output_stride``: a head that ends finer than SAM 2's, starts as that one, and learns what it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from monai_sam2adapter.networks.nets import PromptFreeSAM2
from monai_sam2adapter.networks.profiling import count_macs
from monai_sam2adapter.networks.weights import CheckpointError, load_adapter, load_network_weights, save_adapter


def build(output_stride: int, **options: object) -> PromptFreeSAM2:
    torch.manual_seed(0)
    net = PromptFreeSAM2(adapter="none", in_channels=1, out_channels=3, output_stride=output_stride, **options)
    net.sam_mask_decoder.class_tokens.weight.data.normal_(std=3)
    return net.eval()


def as_stride_4(net: PromptFreeSAM2) -> PromptFreeSAM2:
    same = build(4)
    same.load_state_dict({k: v for k, v in net.state_dict().items() if "refinement" not in k})
    return same


@pytest.mark.parametrize("size", [(64, 64), (100, 75)])
def test_starts_with_the_logits_of_stride_4(size: tuple[int, int]) -> None:
    images = torch.rand(2, 1, *size)
    for stride in (2, 1):
        net = build(stride)
        with torch.no_grad():
            found, expected = net(images), as_stride_4(net)(images)
        assert found.shape == (2, 3, *size)
        torch.testing.assert_close(found, expected)


def test_learns_lines_of_a_pixel_that_stride_4_cannot_show() -> None:
    image = torch.zeros(1, 1, 64, 64)
    image[..., ::4] = 1.0
    label = image[:, 0].long()
    losses = {}
    for stride in (4, 1):
        net = build(stride).train()
        trained = [p for p in net.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(trained, 3e-3)
        for _ in range(20):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(image), label)
            loss.backward()
            optimizer.step()
        losses[stride] = loss.item()
    assert losses[1] < 0.1 < 0.4 < losses[4]


@pytest.mark.parametrize("stride", [4, 2, 1])
def test_the_config_and_the_adapter_file_have_it(stride: int, tmp_path: Path) -> None:
    net = build(stride)
    again = PromptFreeSAM2(**net.config)
    again.load_state_dict(net.state_dict())
    assert again.output_stride == stride
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter.add_(0.01)
    save_adapter(net, tmp_path / "adapter.safetensors")
    load_adapter(again, tmp_path / "adapter.safetensors")
    torch.testing.assert_close(again.state_dict(), net.state_dict())


def test_the_refinement_is_trained_and_belongs_to_the_head() -> None:
    groups = build(1).parameter_groups()
    extra = sum(p.numel() for p in groups["class_head"]) - sum(
        p.numel() for p in build(4).parameter_groups()["class_head"]
    )
    assert extra == (3 * 9 + 1) * 16 + (48 * 9 + 1) * 32 + (32 + 1) * 32
    assert all(p.requires_grad for p in groups["class_head"])


def test_its_price_is_counted() -> None:
    pixels = 64 * 64
    macs = {stride: count_macs(build(stride), torch.zeros(1, 1, 64, 64)).total for stride in (4, 2, 1)}
    kernels = 3 * 32
    for stride in (2, 1):
        # two 3 x 3 convolutions, one 1 x 1 convolution, and the kernels of the classes at more places
        each = 3 * (stride + 2) ** 2 * 16 + 48 * 9 * 32 + 32 * 32 + kernels
        expected = each * pixels // stride**2 - kernels * pixels // 16
        assert macs[stride] - macs[4] == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("stride", [0, 3, 8, "2"])
def test_other_strides_are_an_error(stride: object) -> None:
    with pytest.raises(ValueError, match=r"output_stride must be one of \(4, 2, 1\), got"):
        PromptFreeSAM2(output_stride=stride)


@pytest.mark.parametrize(("saved", "wanted"), [(4, 2), (1, 4), (1, 2), (2, 1)])
def test_weights_of_another_stride_are_refused(saved: int, wanted: int, tmp_path: Path) -> None:
    torch.save(build(saved).state_dict(), tmp_path / "model.pt")
    message = f"refinement.*output_stride {saved}.* this one has .*output_stride {wanted}"
    with pytest.raises(CheckpointError, match=message):
        load_network_weights(build(wanted), tmp_path / "model.pt")
