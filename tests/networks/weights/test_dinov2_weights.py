# SPDX-License-Identifier: Apache-2.0
"""DINOv2 from timm: sizes, and files of weights as timm and Meta write them."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from monai_sam2adapter.networks.nets import build_dinov2
from monai_sam2adapter.networks.weights import CheckpointFormatError, CheckpointMismatchError, load_dinov2_checkpoint

timm = pytest.importorskip("timm", reason="timm is missing; install the extra 'unext'")


@pytest.fixture(scope="module")
def tensors():
    """Random weights of a small one for 70 x 70, with what whole files have beside."""
    torch.manual_seed(1)
    model = timm.create_model("vit_small_patch14_dinov2", pretrained=False, img_size=70)
    return {**model.state_dict(), "mask_token": torch.zeros(1, 384)}


def save(tensors, path):
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    else:
        torch.save(tensors, path)
    return path


@pytest.mark.parametrize(("variant", "channels"), [("small", 384), ("base", 768), ("large", 1024)])
def test_variants(variant, channels, on_meta):
    with on_meta:
        model = build_dinov2(variant, 70)
        (features,) = model(torch.rand(2, 3, 70, 70))
    assert features.shape == (2, channels, 5, 5)
    assert model.feature_info.channels() == [channels]


@pytest.mark.parametrize("name", ["dinov2_vits14_pretrain.pth", "model.safetensors"])
def test_file_gives_what_timm_computes(name, tensors, tmp_path):
    net = build_dinov2("small", 70, save(tensors, tmp_path / name)).eval()
    model = timm.create_model("vit_small_patch14_dinov2", pretrained=False, img_size=70).eval()
    model.load_state_dict({key: tensor for key, tensor in tensors.items() if key != "mask_token"})
    x = torch.rand(1, 3, 70, 70)
    with torch.no_grad():
        expected = model.forward_intermediates(x, indices=1, norm=False, intermediates_only=True)[-1]
        assert torch.allclose(net(x)[0], expected, atol=1e-6)


def test_positions_are_resized_as_by_timm(tensors, tmp_path):
    net = build_dinov2("small", 98, save(tensors, tmp_path / "a.pth"))
    expected = timm.layers.resample_abs_pos_embed(tensors["pos_embed"], [7, 7])
    assert torch.equal(net.model.pos_embed, expected)


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"reg_token": torch.zeros(1, 4, 384)},
                r"1 tensors that the network has not: model\.reg_token.*without registers",
            ),
            ({"pos_embed": torch.zeros(1, 27, 384)}, r"model\.pos_embed is \(1, 27, 384\).*expected \(1, 26, 384\)"),
            ({"cls_token": torch.zeros(1, 1, 384, dtype=torch.int8)}, r"cls_token is .*int8"),
        ],
        ids=["registers", "no square", "quantized"],
    )
    def test_unfit_file(self, change, message, tensors, tmp_path):
        net = build_dinov2("small", 70)
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        with pytest.raises(CheckpointMismatchError, match=message):
            load_dinov2_checkpoint(net, save(tensors | change, tmp_path / "a.pth"))
        assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())

    def test_other_variant(self, tensors, tmp_path, on_meta):
        with on_meta:
            net = build_dinov2("base", 70)
        with pytest.raises(CheckpointMismatchError, match=r"cls_token is \(1, 1, 384\) .*expected \(1, 1, 768\)"):
            load_dinov2_checkpoint(net, save(tensors, tmp_path / "a.pth"))

    def test_absent_and_damaged_files(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="or 'timm' to download"):
            build_dinov2("small", 70, tmp_path / "no.pth")
        (tmp_path / "a.safetensors").write_bytes(b"no safetensors")
        with pytest.raises(CheckpointFormatError, match="is no safetensors file, or damaged"):
            build_dinov2("small", 70, tmp_path / "a.safetensors")
