# SPDX-License-Identifier: Apache-2.0
"""Every bundle with another encoder by one option, the same in training, evaluation and inference."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bundle_runs import ACDC, SMALL, fails_with, load, parse, run, train

from monai_sam2adapter.data import write_acdc_phantom
from monai_sam2adapter.networks.nets import PromptFreeSAM2, PromptFreeViT

pytest.importorskip("timm", reason="timm is missing; install the extra 'dinov3'")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("acdc")
    write_acdc_phantom(folder, num_train=1, num_val=1, num_test=1, progress=False)
    return folder


@pytest.mark.parametrize("name", ["train", "inference"])
@pytest.mark.parametrize("encoder", ["sam2", "dinov3", "sam3"])
def test_one_option_builds_the_network_of_the_encoder(name: str, encoder: str, bundle: Path) -> None:
    if bundle.name == "sam2_unext_segmentation":
        pytest.skip("has a network of its own")
    needed = {"class_names": ["background", "a"], "num_channels": 1}
    parser = parse(bundle, name, encoder=encoder)
    parser.update({key: value for key, value in needed.items() if key in parser.config})
    with torch.device("meta"):
        net = parser.get_parsed_content("network_def")
    assert type(net) is (PromptFreeSAM2 if encoder == "sam2" else PromptFreeViT)
    assert net.config["variant"] == {"sam2": "tiny", "dinov3": "small", "sam3": "large"}[encoder]


def test_weights_must_be_named_and_those_of_the_other_encoder_are_refused(phantom: Path, tmp_path: Path) -> None:
    options = {**SMALL, "encoder": "dinov3"}
    with fails_with("no DINOv3 weights were given", "sam2_checkpoint"):
        parse(ACDC, "train", **options).get_parsed_content("network")
    net = parse(ACDC, "train", **options, sam2_checkpoint="random").get_parsed_content("network")
    torch.save(net.state_dict(), tmp_path / "model.pt")
    parser = parse(ACDC, "inference", **SMALL, checkpoint_file=str(tmp_path / "model.pt"))
    with fails_with("is of a network with encoder dinov3, this one has sam2", "variant small, adapter none"):
        parser.get_parsed_content("evaluator#network")


@pytest.mark.slow
def test_trains_resumes_evaluates_and_infers(phantom: Path, tmp_path: Path) -> None:
    options = {"encoder": "dinov3", "adapter": "lw", "frozen_dtype": "bfloat16", "activation_checkpointing": True}
    train(ACDC, phantom, tmp_path / "out", **options)
    train(ACDC, phantom, tmp_path / "out", **options, epochs=2, resume=True)
    best, last = (load(tmp_path / "out" / name) for name in ("model.pt", "last.pt"))
    assert last["epoch"] == 2
    assert not any(name.startswith("image_encoder.trunk.patch_embed") for name in last["network"])
    assert best["image_encoder.trunk.patch_embed.proj.weight"].dtype == torch.float32
    del options["activation_checkpointing"]
    weights = {"checkpoint_file": tmp_path / "out" / "model.pt", **options}
    run(ACDC, "evaluating", "train", "evaluate", dataset_dir=phantom, output_dir=tmp_path / "eval", **weights)
    assert (tmp_path / "eval" / "results.json").is_file()
    images = next(phantom.rglob("*frame01.nii.gz"))
    run(ACDC, "inference", "inference", dataset_dir=images, output_dir=tmp_path / "pred", **weights)
    assert list((tmp_path / "pred").rglob("*.nii.gz"))
