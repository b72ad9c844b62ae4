# SPDX-License-Identifier: Apache-2.0
"""MONAI's own checks and tools on every bundle: metadata, properties, export, TensorRT, download and load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import monai.bundle
import monai.networks
import pytest
import torch
from bundle_runs import ACDC, SMALL, config_of, load, parse, read
from monai.bundle import ConfigWorkflow

from monai_sam2adapter.bundle import pack_bundle
from monai_sam2adapter.networks.nets import AdaptedSAM2

SCHEMA = Path(__file__).parent / "meta_schema.json"


def test_metadata_follows_the_schema(bundle: Path) -> None:
    monai.bundle.verify_metadata(meta_file=config_of(bundle, "metadata")[0], filepath=SCHEMA)
    metadata = read(bundle, "metadata")
    assert metadata["version"] in metadata["changelog"]
    formats = metadata["network_data_format"]
    found, classes = formats["post_processed_outputs"]["pred"], formats["outputs"]["pred"]["num_channels"]
    assert (found["dtype"], found["num_channels"]) == ("uint8", 1)
    assert found["value_range"] == [0, max(classes - 1, 1)]
    is_volume = read(bundle, "inference")["output_format"] == "nii.gz"
    assert len(found["spatial_shape"]) == (3 if is_volume else 2)
    assert set(metadata["supported_apps"]) == ({"monai-label", "monai-deploy-app-sdk"} if is_volume else set())


@pytest.mark.parametrize(
    ("names", "workflow_type"),
    [(["train"], "train"), (["train", "evaluate"], "train"), (["inference"], "infer")],
    ids=["training", "evaluation", "inference"],
)
def test_properties(
    names: list[str],
    workflow_type: str,
    bundle: Path,
    smallest: dict[str, Any],
    dataset_dir: Path,
    trained: Path,
    tmp_path: Path,
) -> None:
    """MONAI builds everything, which must leave the folder of the results as it is."""
    (tmp_path / "model.pt").write_text("of an earlier run")
    workflow = ConfigWorkflow(
        config_file=config_of(bundle, *names),
        meta_file=config_of(bundle, "metadata")[0],
        workflow_type=workflow_type,
        bundle_root=str(bundle),
        dataset_dir=str(dataset_dir),
        output_dir=str(tmp_path),
        **{
            **SMALL,
            **smallest,
            "sam2_checkpoint": "random",
            **({} if names == ["train"] else {"checkpoint_file": str(trained)}),
        },
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    assert (tmp_path / "model.pt").read_text() == "of an earlier run"


def test_network_takes_and_gives_what_the_metadata_says(bundle: Path, smallest: dict[str, Any]) -> None:
    formats, size = read(bundle, "metadata")["network_data_format"], read(bundle, "inference")["image_size"]
    tensors = {"inputs#image": formats["inputs"]["image"], "outputs#pred": formats["outputs"]["pred"]}
    assert [tensor["spatial_shape"] for tensor in tensors.values()] == [[size, size]] * 2
    small = {f"_meta_#network_data_format#{name}#spatial_shape": [64, 64] for name in tensors}
    files = {"meta_file": config_of(bundle, "metadata")[0], "config_file": config_of(bundle, "inference")[0]}
    monai.bundle.verify_net_in_out(
        "network_def", **files, bundle_root=str(bundle), device="cpu", adapter="none", **smallest, **small
    )


def test_exports_to_torchscript(bundle: Path, smallest: dict[str, Any], trained: Path, tmp_path: Path) -> None:
    network = parse(bundle, "inference", checkpoint_file=str(trained), **smallest)
    network = network.get_parsed_content("network_def").eval()
    network.load_state_dict(load(trained))
    channels = network.config["in_channels"]
    monai.bundle.ckpt_export(
        "network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(trained),
        meta_file=config_of(bundle, "metadata")[0],
        config_file=config_of(bundle, "inference")[0],
        use_trace=True,
        input_shape=[1, channels, 32, 32],
        converter_kwargs={"check_trace": False},  # done below, at another size
        adapter=SMALL["adapter"],
        checkpoint_file=str(trained),
        **smallest,
    )
    image = torch.randn(2, channels, 40, 70)
    exported = torch.jit.load(tmp_path / "model.ts")
    with torch.no_grad():
        torch.testing.assert_close(exported(image), network(image), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def acdc(tmp_path_factory: pytest.TempPathFactory) -> tuple[AdaptedSAM2, dict[str, Any]]:
    """The network of a bundle, and what MONAI's exports take of it."""
    network = parse(ACDC, "inference").get_parsed_content("network_def").eval()
    ckpt_file = tmp_path_factory.mktemp("acdc") / "model.pt"
    torch.save(network.state_dict(), ckpt_file)
    files = {"meta_file": config_of(ACDC, "metadata")[0], "config_file": config_of(ACDC, "inference")[0]}
    return network, {"net_id": "network_def", "ckpt_file": str(ckpt_file), **files, "adapter": SMALL["adapter"]}


def test_export_by_scripting_says_what_to_do(acdc: tuple[AdaptedSAM2, dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"cannot be scripted.*--use_trace True --input_shape \"\[1,1,224,224\]\""):
        monai.bundle.ckpt_export(filepath=str(tmp_path / "model.ts"), **acdc[1])
    assert not list(tmp_path.iterdir())


def test_exports_to_onnx_of_every_size(acdc: tuple[AdaptedSAM2, dict[str, Any]], tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is missing; install the extra 'export'")
    axes = {"image": {0: "batch", 2: "height", 3: "width"}}
    monai.bundle.onnx_export(
        filepath=str(tmp_path / "model.onnx"),
        use_trace=True,
        input_shape=[2, 1, 64, 96],
        converter_kwargs={"dynamo": False, "input_names": ["image"], "dynamic_axes": axes},
        **acdc[1],
    )
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    image = torch.randn(1, 1, 40, 230)
    with torch.no_grad():
        (got,) = session.run(None, {"image": image.numpy()})
        torch.testing.assert_close(torch.from_numpy(got), acdc[0](image), rtol=1e-4, atol=1e-4)


def test_tensorrt_gets_the_network_and_its_sizes(
    bundle: Path, smallest: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here there is none, and MONAI gives the network back as it is."""
    options = {**smallest, "checkpoint_file": "some/model.pt"}
    config = parse(bundle, "inference", "inference_trt", **options)
    assert config.get_parsed_content("network") is config.get_parsed_content("network_def")
    given: list[Any] = []
    monkeypatch.setattr(monai.networks, "trt_compile", lambda *args, **kwargs: given.append((args, kwargs)) or args[0])
    config = parse(bundle, "inference", "inference_trt", **options)
    network = config.get_parsed_content("network")
    args = {"precision": "tf32", "dynamic_batchsize": [1, 4, 4], "fallback": True}
    assert given == [((network, "some/model.pt"), {"args": args})]
    assert isinstance(network, AdaptedSAM2)
    assert config.get_parsed_content("amp") is False


def test_load_gives_the_trained_network(bundle: Path, smallest: dict[str, Any], trained: Path, tmp_path: Path) -> None:
    packed = pack_bundle(bundle, trained, tmp_path, settings={"adapter": SMALL["adapter"], **smallest})
    monai.bundle.download(name=bundle.name, url=packed.path.as_uri(), bundle_dir=tmp_path, progress=False)
    network = monai.bundle.load(bundle.name, bundle_dir=tmp_path, device="cpu")
    saved = load(trained)
    assert network.state_dict().keys() == saved.keys()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("key", ["version", "required_packages_version", "network_data_format"])
def test_the_schema_refuses_metadata_that_lacks_what_monai_requires(key: str, tmp_path: Path) -> None:
    metadata = dict.fromkeys(json.loads(SCHEMA.read_text(encoding="utf-8"))["required"], "text")
    metadata |= {"required_packages_version": {}, "network_data_format": {"inputs": {}, "outputs": {}}}
    path = tmp_path / "metadata.json"
    path.write_text(json.dumps(metadata), encoding="utf-8")
    monai.bundle.verify_metadata(meta_file=str(path), filepath=SCHEMA)
    del metadata[key]
    path.write_text(json.dumps({**metadata, "schema": "text"}), encoding="utf-8")
    with pytest.raises(ValueError, match=f"'{key}' is a required property"):
        monai.bundle.verify_metadata(meta_file=str(path), filepath=SCHEMA)
