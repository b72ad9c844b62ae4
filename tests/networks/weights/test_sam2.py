# SPDX-License-Identifier: Apache-2.0
"""Loading of SAM 2's weights, with random tensors under the official names."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from sam2.modeling.sam2_utils import MLP

from monai_sam2adapter.networks.nets import PromptFreeSAM2
from monai_sam2adapter.networks.weights import (
    SAM2_CATALOG,
    CheckpointFormatError,
    CheckpointMismatchError,
    UnsafeCheckpointError,
    catalog,
    load_sam2_checkpoint,
)

VARIANTS = ("tiny", "small", "base_plus", "large")
MASK_TOKENS = "sam_mask_decoder.mask_tokens.weight"
HYPERNETWORK = "sam_mask_decoder.output_hypernetworks_mlps.0."
HEAD_NAMES = ("sam_mask_decoder.class_tokens.", "sam_mask_decoder.class_hypernetworks.")


def assert_loads(net, tensors, path):
    """Load, and compare every tensor of the net with the file or with what it was before."""
    used, added = net.sam2_state_names(), net.added_state_names()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items() if name in added}
    report = load_sam2_checkpoint(net, path)
    assert net.base_checkpoint == path.stem
    assert set(report.loaded) == used
    for name, tensor in net.state_dict().items():
        if name in used:
            assert torch.equal(tensor, tensors[name]), name
        elif not name.startswith(HEAD_NAMES):
            assert torch.equal(tensor, before[name]), name
    return report


def assert_refuses(net, path, error, message):
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(error, match=message):
        load_sam2_checkpoint(net, path)
    assert net.base_checkpoint is None
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), name


class TestLoad:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_official_names_and_shapes_load_in_every_variant(self, official_tensors, tmp_path, variant):
        tensors = official_tensors(variant)
        path = tmp_path / f"sam2.1_hiera_{variant}.pt"
        torch.save({"model": tensors}, path)
        net = PromptFreeSAM2(variant=variant, adapter="hp", in_channels=1, out_channels=4)
        report = assert_loads(net, tensors, path)
        assert (report.variant, report.sam_version) == (variant, "2.1")
        assert set(report.loaded) | set(report.initialized) | set(report.unused) == set(tensors)
        assert {name.split(".")[0] for name in report.unused} >= {"memory_attention", "memory_encoder"}
        assert not any(name.startswith("image_encoder.trunk.blocks.") for name in report.unused)

    def test_sam2_positions_load_too(self, official_tensors, tmp_path):
        tensors = official_tensors("tiny")
        torch.save({"model": tensors}, tmp_path / "sam2.1_hiera_tiny.pt")
        net = PromptFreeSAM2(variant="tiny", adapter="none", positional_encoding="sam2")
        report = assert_loads(net, tensors, tmp_path / "sam2.1_hiera_tiny.pt")
        assert not any(name.startswith("image_encoder.") for name in report.unused)

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda tensors: {"model": tensors},
            lambda tensors: {"state_dict": tensors, "epoch": 3},
            lambda tensors: tensors,
            lambda tensors: {f"module.{name}": tensor for name, tensor in tensors.items()},
            lambda tensors: {"model": {f"module.{name}": tensor for name, tensor in tensors.items()}},
        ],
        ids=["model", "state_dict", "bare", "distributed", "distributed_model"],
    )
    def test_every_wrapping_loads(self, net, tiny_tensors, tmp_path, wrap):
        path = tmp_path / "mine.pth"
        torch.save(wrap(tiny_tensors), path)
        report = assert_loads(net, tiny_tensors, path)
        assert report.unused == ("obj_ptr_proj.layers.0.weight",)

    def test_older_format_of_pytorch_loads(self, net, tiny_tensors, tmp_path):
        path = tmp_path / "mine.pth"
        torch.save({"model": tiny_tensors}, path, _use_new_zipfile_serialization=False)
        assert_loads(net, tiny_tensors, path)

    def test_every_class_starts_from_the_first_mask_token(self, net, tiny_tensors, tiny_checkpoint):
        report = load_sam2_checkpoint(net, tiny_checkpoint)
        tokens = net.sam_mask_decoder.class_tokens.weight
        assert torch.equal(tokens, tiny_tensors[MASK_TOKENS][:1].expand(4, -1))
        assert len(report.initialized) == 7

    def test_every_class_starts_from_the_first_hypernetwork(self, net, tiny_tensors, tiny_checkpoint):
        load_sam2_checkpoint(net, tiny_checkpoint)
        official = MLP(256, 256, 32, 3)
        prefix = len(HYPERNETWORK)
        official.load_state_dict({k[prefix:]: v for k, v in tiny_tensors.items() if k.startswith(HYPERNETWORK)})
        x = torch.randn(2, 4, 256, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(net.sam_mask_decoder.class_hypernetworks(x), official(x))

    def test_half_precision_file_loads_into_a_float_net(self, net, tiny_tensors, tmp_path):
        torch.save({name: tensor.bfloat16() for name, tensor in tiny_tensors.items()}, tmp_path / "half.pt")
        load_sam2_checkpoint(net, tmp_path / "half.pt")
        assert torch.equal(net.no_mem_embed, tiny_tensors["no_mem_embed"].bfloat16().float())
        assert net.no_mem_embed.dtype == torch.float32

    @pytest.mark.parametrize(("mark", "version"), [({}, "2"), ({"no_obj_embed_spatial": torch.zeros(1, 64)}, "2.1")])
    def test_version_is_told_apart(self, net, tiny_tensors, tmp_path, mark, version):
        torch.save({"model": tiny_tensors | mark}, tmp_path / "mine.pt")
        assert load_sam2_checkpoint(net, tmp_path / "mine.pt").sam_version == version

    def test_frozen_parts_stay_frozen(self, net, tiny_checkpoint):
        before = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
        load_sam2_checkpoint(net, tiny_checkpoint)
        assert {name for name, parameter in net.named_parameters() if parameter.requires_grad} == before

    def test_report_reads_well(self, net, tiny_checkpoint):
        report = load_sam2_checkpoint(net, tiny_checkpoint)
        lines = str(report).splitlines()
        assert lines[0] == f"SAM 2 checkpoint, variant tiny: {tiny_checkpoint}"
        assert lines[1].endswith(f"{hashlib.sha256(tiny_checkpoint.read_bytes()).hexdigest()} (not an official file)")
        assert lines[-1].endswith("1 tensors (obj_ptr_proj.layers 1)")


class TestCatalogName:
    @pytest.fixture(autouse=True)
    def catalog_of_the_server(self, server, tiny_checkpoint, monkeypatch):
        server.content = tiny_checkpoint.read_bytes()
        sha256 = hashlib.sha256(server.content).hexdigest()
        entry = dataclasses.replace(SAM2_CATALOG["sam2_hiera_tiny"], size=len(server.content), sha256=sha256)
        monkeypatch.setitem(SAM2_CATALOG, "sam2_hiera_tiny", entry)
        monkeypatch.setattr(catalog, "_FILES_URL", server.url)

    def test_present_file_is_taken_without_a_request(self, net, server, tiny_checkpoint):
        report = load_sam2_checkpoint(net, "sam2_hiera_tiny", directory=tiny_checkpoint.parent)
        assert report.path == tiny_checkpoint
        assert report.official_name == "sam2_hiera_tiny"
        assert "the official sam2_hiera_tiny" in str(report)
        assert server.requested_ranges == []

    def test_absent_file_is_downloaded(self, net, server, tiny_tensors, tmp_path):
        report = load_sam2_checkpoint(net, "sam2_hiera_tiny", directory=tmp_path / "new")
        assert report.path == tmp_path / "new" / "sam2_hiera_tiny.pt"
        assert torch.equal(net.no_mem_embed, tiny_tensors["no_mem_embed"])
        assert server.requested_paths == ["/072824/sam2_hiera_tiny.pt"]


class RunsCode:
    """Its pickle calls a function when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class TestRefusedFiles:
    def test_absent_file_lists_the_catalog(self, net, tmp_path):
        assert_refuses(net, tmp_path / "no.pt", FileNotFoundError, r"there is no file .*no\.pt.*sam2\.1_hiera_large")

    def test_misspelt_name_lists_the_catalog(self, net):
        assert_refuses(net, "sam2.1_hiera_tyni", FileNotFoundError, r"sam2\.1_hiera_tyni.*no name in the catalog")

    @pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_truncated_file(self, net, tiny_tensors, tmp_path, share, zipped):
        path = tmp_path / "cut.pt"
        torch.save({"model": tiny_tensors}, path, _use_new_zipfile_serialization=zipped)
        os.truncate(path, int(path.stat().st_size * share))
        assert_refuses(net, path, CheckpointFormatError, r"cut\.pt is truncated")

    def test_empty_file(self, net, tmp_path):
        (tmp_path / "empty.pt").touch()
        assert_refuses(net, tmp_path / "empty.pt", CheckpointFormatError, r"empty\.pt is empty")

    @pytest.mark.parametrize(
        "content",
        [b"<!DOCTYPE html><html></html>", b"\x89PNG\r\n\x1a\n" + bytes(100), b"\xff\xd8\xff\xe0" + bytes(100), b"a"],
        ids=["text", "png", "jpeg", "one_byte"],
    )
    def test_file_of_another_kind(self, net, tmp_path, content):
        (tmp_path / "other.pt").write_bytes(content)
        assert_refuses(net, tmp_path / "other.pt", CheckpointFormatError, r"other\.pt is not a checkpoint: it begins")

    def test_zip_archive_of_another_kind(self, net, tmp_path):
        with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
            archive.writestr("a/b.txt", "hello")
        assert_refuses(net, tmp_path / "other.zip", CheckpointFormatError, r"other\.zip is truncated or damaged")

    def test_safetensors_file_is_sent_to_load_adapter(self, net, tmp_path):
        save_file({"a": torch.zeros(3)}, tmp_path / "a.safetensors")
        assert_refuses(net, tmp_path / "a.safetensors", CheckpointFormatError, "Adapter files go to load_adapter")

    @pytest.mark.parametrize("content", [{"epoch": 3}, [torch.zeros(3)], {"model": {}}], ids=["keys", "list", "none"])
    def test_file_without_named_tensors(self, net, tmp_path, content):
        torch.save(content, tmp_path / "odd.pt")
        assert_refuses(net, tmp_path / "odd.pt", CheckpointFormatError, "expected tensors by their names")

    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_code_in_the_file_is_refused_and_not_run(self, net, tiny_tensors, tmp_path, zipped):
        content = {"model": tiny_tensors, "extra": RunsCode(tmp_path / "ran")}
        torch.save(content, tmp_path / "evil.pt", _use_new_zipfile_serialization=zipped)
        assert_refuses(net, tmp_path / "evil.pt", UnsafeCheckpointError, r"evil\.pt is unsafe .*it holds \w+\.mkdir")
        assert not (tmp_path / "ran").exists()

    def test_bare_pickle_with_code_is_refused_and_not_run(self, net, tmp_path):
        (tmp_path / "evil.pkl").write_bytes(pickle.dumps(RunsCode(tmp_path / "ran"), protocol=2))
        assert_refuses(net, tmp_path / "evil.pkl", UnsafeCheckpointError, r"evil\.pkl is unsafe")
        assert not (tmp_path / "ran").exists()


class TestUnfitFiles:
    @pytest.mark.parametrize(("of_file", "of_net"), [("small", "tiny"), ("tiny", "small"), ("base_plus", "tiny")])
    def test_wrong_variant_is_named(self, official_tensors, tmp_path, of_file, of_net):
        path = tmp_path / "base.pt"
        torch.save({"model": official_tensors(of_file)}, path)
        message = rf"variant {of_file}, the net is {of_net}\. Build the net with variant='{of_file}'"
        net = PromptFreeSAM2(variant=of_net, adapter="none")
        assert_refuses(net, path, CheckpointMismatchError, message)

    def test_missing_tensors_are_named(self, net, tiny_tensors, tmp_path):
        total = len(net.sam2_state_names()) + 7
        for name in ("no_mem_embed", "image_encoder.neck.convs.0.conv.bias"):
            del tiny_tensors[name]
        torch.save(tiny_tensors, tmp_path / "a.pt")
        message = rf"lacks 2 of the {total} tensors .*: image_encoder\.neck\.convs\.0\.conv\.bias, no_mem_embed\."
        assert_refuses(net, tmp_path / "a.pt", CheckpointMismatchError, message)

    @pytest.mark.parametrize("name", [MASK_TOKENS, f"{HYPERNETWORK}layers.2.bias"])
    def test_missing_start_of_the_head_is_named(self, net, tiny_tensors, tmp_path, name):
        del tiny_tensors[name]
        torch.save(tiny_tensors, tmp_path / "a.pt")
        assert_refuses(net, tmp_path / "a.pt", CheckpointMismatchError, rf"lacks 1 of .*{name}")

    def test_other_files_tensors_are_listed_in_short(self, net, tmp_path):
        torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "resnet.pt")
        assert_refuses(net, tmp_path / "resnet.pt", CheckpointMismatchError, r"lacks .* and \d+ more\. Load")

    @pytest.mark.parametrize("name", ["no_mem_embed", MASK_TOKENS])
    def test_misshaped_tensor_is_named(self, net, tiny_tensors, tmp_path, name):
        tiny_tensors[name] = torch.zeros(2, 128)
        torch.save(tiny_tensors, tmp_path / "a.pt")
        message = rf"fit the network: it differs in 1 tensors: {name} is \(2, 128\) torch\.float32, expected \("
        assert_refuses(net, tmp_path / "a.pt", CheckpointMismatchError, message)

    def test_quantized_tensor_is_refused(self, net, tiny_tensors, tmp_path):
        tiny_tensors["no_mem_embed"] = tiny_tensors["no_mem_embed"].mul(127).to(torch.int8)
        torch.save(tiny_tensors, tmp_path / "a.pt")
        assert_refuses(net, tmp_path / "a.pt", CheckpointMismatchError, r"no_mem_embed is .* torch\.int8, expected")
