# SPDX-License-Identifier: Apache-2.0
"""Files with the trained part of a net only."""

from __future__ import annotations

import copy
import functools
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from monai_sam2adapter import __version__
from monai_sam2adapter.networks.adapters import adapter_names
from monai_sam2adapter.networks.nets import PromptFreeSAM2
from monai_sam2adapter.networks.weights import (
    CheckpointFormatError,
    CheckpointMismatchError,
    adapters,
    load_adapter,
    load_sam2_checkpoint,
    save_adapter,
)


@functools.lru_cache(maxsize=4)
def _built(kwargs):
    torch.manual_seed(0)
    return PromptFreeSAM2(**json.loads(kwargs))


def build(checkpoint=None, **kwargs):
    kwargs = {"variant": "tiny", "adapter": "lw", "in_channels": 1, "out_channels": 4} | kwargs
    net = copy.deepcopy(_built(json.dumps(kwargs)))
    if checkpoint is not None:
        load_sam2_checkpoint(net, checkpoint)
    return net.eval()


def train_a_little(net):
    """Random values in everything that is not SAM 2's: parameters, BatchNorm statistics and counters."""
    generator = torch.Generator().manual_seed(2)
    state = net.state_dict()
    for name in sorted(net.added_state_names() - {"input_channels"}):
        if state[name].is_floating_point():
            # of both signs, or adapters in front of the blocks would double the features in each until they are NaN
            low, high = (0.1, 0.6) if name.endswith("running_var") else (-0.1, 0.1)
            state[name].copy_(low + (high - low) * torch.rand(state[name].shape, generator=generator))
        else:
            state[name].fill_(17)
    return net


@pytest.fixture
def trained(tiny_checkpoint):
    return train_a_little(build(tiny_checkpoint))


@pytest.fixture
def path(trained, tmp_path):
    path = tmp_path / "adapter.safetensors"
    save_adapter(trained, path)
    return path


def metadata_of(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def assert_refuses(net, path, error, message):
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(error, match=message):
        load_adapter(net, path)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), name


class TestRoundTrip:
    @pytest.mark.parametrize("adapter", [*adapter_names(), "none"])
    def test_loaded_net_computes_the_same(self, tiny_checkpoint, tmp_path, adapter):
        trained = train_a_little(build(tiny_checkpoint, adapter=adapter))
        save_adapter(trained, tmp_path / "a.safetensors")
        net = build(tiny_checkpoint, adapter=adapter)
        x = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(3))
        with torch.no_grad():
            assert not torch.allclose(net(x), trained(x), rtol=1e-2)
            load_adapter(net, tmp_path / "a.safetensors")
            assert torch.equal(net(x), trained(x))

    def test_parameters_and_buffers_are_held_and_nothing_of_sam2(self, trained, path):
        tensors = load_file(path)
        assert set(tensors) == trained.added_state_names()
        assert {name.rsplit(".", 1)[-1] for name in tensors} >= {"running_mean", "running_var", "num_batches_tracked"}
        state = trained.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in tensors.items())

    def test_header_names_net_and_base(self, trained, path):
        metadata = metadata_of(path)
        assert json.loads(metadata["config"]) == trained.config
        assert metadata["net"] == "PromptFreeSAM2"
        assert metadata["base"] == "sam2_hiera_tiny"
        assert metadata["package_version"] == __version__
        assert len(metadata["base_sha256"]) == 64

    def test_random_base_serves_when_it_is_the_same(self, tmp_path):
        trained = train_a_little(build())
        save_adapter(trained, tmp_path / "a.safetensors")
        assert metadata_of(tmp_path / "a.safetensors")["base"] == "random"
        net = build()
        load_adapter(net, tmp_path / "a.safetensors")
        assert all(torch.equal(tensor, trained.state_dict()[name]) for name, tensor in net.state_dict().items())

    def test_memory_layout_of_the_base_does_not_matter(self, tiny_checkpoint, path):
        net = build(tiny_checkpoint).to(memory_format=torch.channels_last)
        load_adapter(net, path)

    def test_net_with_trained_sam2_parts_loads_it_to_go_on(self, tiny_checkpoint, trained, path):
        net = build(tiny_checkpoint, freeze=("image_encoder",))
        load_adapter(net, path)
        assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in load_file(path).items())


class TestSaveErrors:
    @pytest.mark.parametrize(
        "kwargs",
        [{"adapter": "full"}, {"freeze": ()}, {"freeze": ("image_encoder", "prompt_encoder")}],
        ids=["full", "nothing_frozen", "decoder_trained"],
    )
    def test_trained_sam2_weights_are_not_lost_silently(self, tmp_path, kwargs):
        with pytest.raises(ValueError, match=r"SAM 2's own weights are trained .*torch\.save\(net\.state_dict\(\)"):
            save_adapter(build(**kwargs), tmp_path / "a.safetensors")
        assert list(tmp_path.iterdir()) == []

    def test_absent_folder_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"there is no folder .*absent"):
            save_adapter(build(), tmp_path / "absent" / "a.safetensors")

    def test_broken_write_leaves_the_old_file(self, trained, path, monkeypatch):
        def half(tensors, filename, metadata):
            filename.write_bytes(b"half a file")
            raise OSError("no space left on device")

        content, files = path.read_bytes(), set(path.parent.iterdir())
        monkeypatch.setattr(adapters, "save_file", half)
        with pytest.raises(OSError, match="no space left"):
            save_adapter(trained, path)
        assert path.read_bytes() == content
        assert set(path.parent.iterdir()) == files


class TestLoadErrors:
    def test_other_base_is_refused(self, tiny_tensors, path, tmp_path):
        tiny_tensors["no_mem_embed"] = tiny_tensors["no_mem_embed"] + 1e-3
        torch.save(tiny_tensors, tmp_path / "other.pt")
        net = build(tmp_path / "other.pt")
        assert_refuses(
            net, path, CheckpointMismatchError, r"trained on other SAM 2 weights: on 'sam2_hiera_tiny'.*'other'"
        )

    def test_net_without_a_base_is_refused(self, path):
        assert_refuses(build(), path, CheckpointMismatchError, r"the net has 'random'.*Load the file's base")

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"out_channels": 9}, r"configuration: out_channels is 4 in the file and 9 in the net\."),
            ({"positional_encoding": "sam2"}, "positional_encoding is 'peg' in the file and 'sam2' in the net"),
            ({"adapter": "hp"}, "adapter is 'lw' in the file and 'hp' in the net"),
            ({"variant": "small"}, "variant is 'tiny' in the file and 'small' in the net"),
            ({"in_channels": 2}, "in_channels is 1 in the file and 2 in the net"),
            ({"adapter_config": {"bottleneck_ratio": 0.5}}, r"adapter_config is .*0\.25.* and .*0\.5"),
        ],
        ids=["classes", "positions", "adapter", "variant", "channels", "adapter_config"],
    )
    def test_other_configuration_is_refused(self, path, kwargs, message):
        assert_refuses(build(**kwargs), path, CheckpointMismatchError, message)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda tensors, name: tensors.pop(name), "lacks 1 of .*class_tokens"),
            (lambda tensors, name: tensors.update(extra=torch.zeros(1)), "has 1 tensors .*: extra"),
            (lambda tensors, name: tensors.update({name: torch.zeros(3)}), r"is \(3,\) .*, expected \(4, 256\)"),
        ],
        ids=["missing", "unknown", "misshaped"],
    )
    def test_unfit_tensors_are_named(self, tiny_checkpoint, path, change, message):
        tensors, metadata = load_file(path), metadata_of(path)
        change(tensors, "sam_mask_decoder.class_tokens.weight")
        del metadata["tensors_sha256"]  # as in files from before there was one
        save_file(tensors, path, metadata)
        assert_refuses(build(tiny_checkpoint), path, CheckpointMismatchError, message)

    def test_absent_file(self, tmp_path):
        assert_refuses(build(), tmp_path / "no.safetensors", FileNotFoundError, "there is no adapter file")

    def test_sam2_checkpoint_is_sent_to_its_own_function(self, tiny_checkpoint):
        assert_refuses(build(), tiny_checkpoint, CheckpointFormatError, r"is no adapter file.*load_sam2_checkpoint")

    @pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
    def test_truncated_file(self, path, share):
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        assert_refuses(build(), path, CheckpointFormatError, "is no adapter file, or damaged")

    def test_safetensors_file_of_another_program(self, tmp_path):
        save_file({"a": torch.zeros(3)}, tmp_path / "a.safetensors")
        assert_refuses(build(), tmp_path / "a.safetensors", CheckpointFormatError, "its header lacks")

    def test_newer_format_is_refused(self, path):
        save_file(load_file(path), path, metadata_of(path) | {"monai_sam2adapter_format": "2"})
        assert_refuses(build(), path, CheckpointFormatError, r"has format 2, .* reads format 1")
