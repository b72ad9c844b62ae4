# SPDX-License-Identifier: Apache-2.0
"""SAM 3's trunk: equal to transformers' at equal weights, and loaded by the names of Meta's file."""

from __future__ import annotations

import json

import pytest
import torch

from monai_sam2adapter.networks.adapters import adapter_names
from monai_sam2adapter.networks.export import export_network
from monai_sam2adapter.networks.nets import PromptFreeViT, SAM3Trunk
from monai_sam2adapter.networks.nets.sam3 import SAM3_CONFIGS
from monai_sam2adapter.networks.utils import reparameterize_model
from monai_sam2adapter.networks.weights import CheckpointMismatchError, prepare_base_weights

SMALL = {
    **{"channels": 64, "num_heads": 4, "mlp_channels": 100, "num_blocks": 4},
    **{"window_size": 4, "global_blocks": (1, 3)},
}


@pytest.fixture
def small(monkeypatch):
    """A network of the same kind that a test can afford: windows of 4 x 4, 4 blocks of 64 channels."""
    monkeypatch.setitem(SAM3_CONFIGS, "large", SMALL)


def to_our_names(state, num_blocks):
    """transformers' names as those of Meta's file; it has left out the position of the class token."""
    positions = state["embeddings.position_embeddings"]
    tensors = {
        "pos_embed": torch.cat((torch.zeros_like(positions[:, :1]), positions), dim=1),
        "patch_embed.proj.weight": state["embeddings.patch_embeddings.projection.weight"],
    }
    same = {"norm1": "layer_norm1", "norm2": "layer_norm2", "attn.proj": "attention.o_proj"}
    same |= {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    for kind in ("weight", "bias"):
        tensors[f"ln_pre.{kind}"] = state[f"layer_norm.{kind}"]
        for index in range(num_blocks):
            for ours, theirs in same.items():
                tensors[f"blocks.{index}.{ours}.{kind}"] = state[f"layers.{index}.{theirs}.{kind}"]
            parts = [state[f"layers.{index}.attention.{part}_proj.{kind}"] for part in "qkv"]
            tensors[f"blocks.{index}.attn.qkv.{kind}"] = torch.cat(parts)
    return tensors


def write_official(path, net, extra=()):
    """A file with the names of Meta's, of a small network."""
    prefix, tensors = "detector.backbone.vision_backbone.", {}
    for name, tensor in net.state_dict().items():
        if name.startswith("image_encoder.trunk."):
            tensors[prefix + name.removeprefix("image_encoder.")] = tensor
        elif name.startswith("neck."):
            tensors[prefix + "sam2_" + name.removeprefix("neck.")] = tensor
    tensors[f"{prefix}trunk.blocks.0.attn.freqs_cis"] = torch.zeros(16, 8, dtype=torch.complex64)
    tensors |= {f"{prefix}sam2_convs.3.conv_1x1.weight": torch.zeros(1), "tracker.x": torch.zeros(2)}
    torch.save({"model": {**tensors, **dict(extra)}}, path)


@pytest.mark.parametrize("side", [56, 112, 126])
def test_equals_transformers(side, small, randomize, relative_error):
    modeling = pytest.importorskip("transformers.models.sam3.modeling_sam3", reason="transformers is missing")
    config = modeling.Sam3ViTModel.config_class(
        **{"hidden_size": 64, "intermediate_size": 100, "num_hidden_layers": 4, "num_attention_heads": 4},
        **{"image_size": side, "pretrain_image_size": 56, "window_size": 4, "global_attn_indexes": [1, 3]},
        layer_norm_eps=1e-5,  # Meta's
    )
    reference = randomize(modeling.Sam3ViTModel(config)).eval()
    trunk = SAM3Trunk("large", "rope").eval()
    trunk.load_state_dict(to_our_names(reference.state_dict(), 4))
    x = torch.randn(2, 3, side, side)
    with torch.no_grad():
        expected = reference(x).last_hidden_state.transpose(1, 2).reshape(2, 64, side // 14, side // 14)
        assert relative_error(trunk(x)[0], expected) < 1e-5


def test_names_and_shapes_are_those_of_the_official_file(checkpoint_keys):
    official = json.loads((checkpoint_keys / "sam3_vision_backbone.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        state = PromptFreeViT(adapter="none", positional_encoding="rope", encoder="sam3").state_dict()
    prefix = "detector.backbone.vision_backbone."
    expected = {name: shape for name, shape in official.items() if "freqs_cis" not in name}
    ours = {}
    for name, tensor in state.items():
        if name.startswith("image_encoder."):
            ours[prefix + name.removeprefix("image_encoder.")] = list(tensor.shape)
        elif name.startswith("neck."):
            ours[prefix + "sam2_" + name.removeprefix("neck.")] = list(tensor.shape)
    others = {name for name in expected if name.startswith((prefix + "convs.", prefix + "sam2_convs.3."))}
    assert ours == {name: shape for name, shape in expected.items() if name not in others}


def test_rotary_factors_are_those_of_the_official_file():
    """Complex numbers of 72 x 72 places scaled to 24, x in the first half of the channels."""
    with torch.device("meta"):
        trunk = SAM3Trunk("large", "rope")
    cosines, sines = trunk._factors((72, 72), torch.zeros(1))[0]
    frequencies = 10000.0 ** (-torch.arange(0, 32, 2).double() / 32)
    places = torch.arange(72 * 72)
    x, y = (places % 72 / 3).double(), (places.div(72, rounding_mode="floor") / 3).double()
    angles = torch.cat((x[:, None] * frequencies, y[:, None] * frequencies), dim=1)
    assert angles.shape == (5184, 32)
    torch.testing.assert_close(cosines[:, ::2].double(), angles.cos(), rtol=0, atol=1e-5)
    torch.testing.assert_close(sines[:, 1::2].double(), angles.sin(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("adapter", [*adapter_names(), "none", "full"])
def test_every_adapter_at_any_size(adapter, small, randomize, relative_error):
    net = randomize(PromptFreeViT(adapter=adapter, in_channels=1, out_channels=3, encoder="sam3"))
    net.train()(torch.rand(2, 1, 70, 33)).square().mean().backward()
    trained = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert trained == {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert ("neck.convs.0.conv_1x1.weight" in trained) == (adapter == "full")
    x = torch.rand(1, 1, 75, 100)
    with torch.no_grad():
        expected = net.eval()(x)
        assert expected.shape == (1, 3, 75, 100)
        assert relative_error(reparameterize_model(net)(x), expected) < 1e-4


def test_the_official_file_is_loaded_and_its_licence_named(small, randomize, tmp_path, caplog):
    caplog.set_level("INFO")
    source = randomize(PromptFreeViT(adapter="none", positional_encoding="rope", encoder="sam3"))
    net = PromptFreeViT(adapter="lora", encoder="sam3")
    write_official(tmp_path / "sam3.pt", source)
    prepare_base_weights(net, str(tmp_path / "sam3.pt"))
    state = source.state_dict()
    for name in net.sam2_state_names():
        assert torch.equal(net.state_dict()[name], state[name]), name
    assert any(name.startswith("neck.") for name in net.sam2_state_names())
    assert net.base_checkpoint == "sam3"
    assert "SAM License" in caplog.text


def test_a_file_with_more_or_less_is_refused(small, tmp_path):
    net = PromptFreeViT(adapter="none", positional_encoding="rope", encoder="sam3")
    more = {"detector.backbone.vision_backbone.trunk.blocks.9.norm1.bias": torch.zeros(64)}
    write_official(tmp_path / "more.pt", net, more)
    with pytest.raises(CheckpointMismatchError, match="has 1 tensors that the network has not"):
        net.load_base(tmp_path / "more.pt")
    torch.save({"model": {"tracker.x": torch.zeros(1)}}, tmp_path / "less.pt")
    with pytest.raises(CheckpointMismatchError, match=r"it lacks .* SAM 3.*Load SAM 3's own sam3.pt"):
        net.load_base(tmp_path / "less.pt")


def test_weights_are_gated_and_the_message_says_where_and_how(small):
    with pytest.raises(ValueError, match=r"no SAM 3 weights .*Ask for access at .*/facebook/sam3 \(gated, SAM License"):
        prepare_base_weights(PromptFreeViT(encoder="sam3"), None)


def test_is_exported_for_every_size(small, randomize, tmp_path):
    net = randomize(PromptFreeViT(adapter="lora", encoder="sam3")).eval()
    errors = export_network(net, tmp_path / "net.ts", "ts", shapes=((1, 32, 32), (2, 75, 140)))
    assert max(errors.values()) < 1e-4
