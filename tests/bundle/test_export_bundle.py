# SPDX-License-Identifier: Apache-2.0
"""A bundle's network as a file that runs without this package."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import load_net_with_metadata

from monai_sam2adapter.__main__ import main
from monai_sam2adapter.bundle import export_bundle
from monai_sam2adapter.networks import export
from monai_sam2adapter.networks.nets import PromptFreeSAM2

BUNDLE = Path(__file__).parents[2] / "bundles" / "acdc_cardiac_segmentation"
# other than the bundle's defaults, as a training may be; lw, since it is fused
SETTINGS = {"adapter": "lw", "positional_encoding": "sam2", "image_size": 40}
CLASS_NAMES = ["background", "right ventricle", "myocardium", "left ventricle"]

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def network() -> PromptFreeSAM2:
    torch.manual_seed(0)
    net = PromptFreeSAM2("tiny", "lw", positional_encoding="sam2", in_channels=1, out_channels=4).eval()
    with torch.no_grad():  # adapters start at zero, where a missing one would not be seen
        for block in net.image_encoder.trunk.blocks:
            block.adapters["lw"].up.weight.normal_(std=0.1)
    return net


@pytest.fixture(scope="module")
def weights(network: PromptFreeSAM2, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(network.state_dict(), path)
    return path


def read_ts(path: Path) -> tuple[Callable[..., Any], dict[str, str]]:
    net, metadata, others = load_net_with_metadata(str(path), more_extra_files=["inference.json"])
    return net, {"metadata.json": json.dumps(metadata), **others}


def read_pt2(path: Path) -> tuple[Callable[..., Any], dict[str, str]]:
    files = {"metadata.json": "", "inference.json": ""}
    return torch.export.load(path, extra_files=files).module(), files


def read_onnx(path: Path) -> tuple[Callable[..., Any], dict[str, str]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    files = session.get_modelmeta().custom_metadata_map
    return lambda images: torch.from_numpy(session.run(["logits"], {"image": images.numpy()})[0]), files


@pytest.mark.parametrize(
    "file_format", ["ts", *(pytest.param(name, marks=pytest.mark.slow) for name in ("onnx", "pt2"))]
)
def test_the_file_has_the_network_and_what_describes_it(
    file_format: str, network: PromptFreeSAM2, weights: Path, tmp_path: Path
) -> None:
    if file_format == "onnx":
        pytest.importorskip("onnxruntime", reason="onnxruntime is missing; install the extra 'export'")
    path = tmp_path / "new" / f"model.{file_format}"
    exported = export_bundle(BUNDLE, file_format, path, weights, SETTINGS)
    assert exported.path == path
    assert exported.class_names == tuple(CLASS_NAMES)
    assert len(exported.errors) == 5
    assert (1, 40, 40) in exported.errors
    assert [file.name for file in path.parent.iterdir()] == [path.name]

    net, files = {"ts": read_ts, "pt2": read_pt2, "onnx": read_onnx}[file_format](path)
    images = torch.rand(3, 1, 70, 41)
    with torch.no_grad():
        torch.testing.assert_close(net(images), network(images), rtol=1e-4, atol=1e-4)
    formats = json.loads(files["metadata.json"])["network_data_format"]
    assert list(formats["outputs"]["pred"]["channel_def"].values()) == CLASS_NAMES
    assert formats["inputs"]["image"]["spatial_shape"] == [40, 40]
    assert formats["inputs"]["image"]["modality"] == "MR"
    inference = json.loads(files["inference.json"])
    assert {key: inference[key] for key in SETTINGS} == SETTINGS
    assert inference["preprocessing"]["_target_"] == "monai.transforms.Compose"


def test_a_file_that_differs_is_not_kept(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It takes no place of one that is there, even where it may be overwritten."""

    def write(net: torch.nn.Module, path: Path, texts: dict[str, str]) -> None:
        net.sam_mask_decoder.class_tokens.weight.mul_(1.5)
        torch.jit.trace(net, torch.rand(1, 1, 32, 32), check_trace=False).save(path)

    monkeypatch.setitem(export._FORMATS, "ts", (write, export._FORMATS["ts"][1]))
    path = tmp_path / "model.ts"
    path.write_text("of an earlier export")
    settings = [text for key, value in SETTINGS.items() for text in ("--set", f"{key}={value}")]
    arguments = [str(BUNDLE), "--format", "ts", "--weights", str(weights), "--output", str(path), "--overwrite"]
    assert main(["export", *arguments, *settings]) == 2
    assert "error: the exported file differs from the network by " in capsys.readouterr().err
    assert path.read_text() == "of an earlier export"
    assert [file.name for file in tmp_path.iterdir()] == ["model.ts"]


@pytest.mark.slow
def test_int8_is_smaller_and_nearly_the_same(network: PromptFreeSAM2, weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is missing; install the extra 'export'")
    exported = export_bundle(BUNDLE, "onnx", tmp_path / "model.onnx", weights, SETTINGS, int8=True)
    assert exported.path.stat().st_size < 0.4 * weights.stat().st_size
    net, files = read_onnx(exported.path)
    assert json.loads(files["metadata.json"])["network_data_format"]
    images = torch.rand(2, 1, 100, 75)
    with torch.no_grad():
        difference = (net(images) - network(images)).abs().max() / network(images).abs().max()
    assert 1e-5 < difference < 0.1


class TestErrorsComeBeforeTheWork:
    def test_int8_of_another_format(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="int8 goes with the format onnx only, got ts"):
            export_bundle(BUNDLE, "ts", tmp_path / "model.ts", tmp_path / "absent.pt", int8=True)

    def test_a_file_that_is_there(self, tmp_path: Path) -> None:
        (tmp_path / "model.ts").touch()
        with pytest.raises(FileExistsError, match=r"--output.*--overwrite"):
            export_bundle(BUNDLE, "ts", tmp_path / "model.ts", tmp_path / "absent.pt")

    def test_a_folder_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match="nothing can be written to this folder"):
            export_bundle(BUNDLE, "ts", tmp_path / "file" / "model.ts", tmp_path / "absent.pt")

    def test_no_weights(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        options = ["--weights", str(tmp_path / "absent.pt"), "--output", str(tmp_path / "model.ts")]
        assert main(["export", str(BUNDLE), "--format", "ts", *options]) == 2
        assert "error: there are no trained weights at" in capsys.readouterr().err

    @pytest.mark.parametrize(("package", "file_format"), [("onnxruntime", "onnx"), ("torch.fx", "pt2")])
    def test_a_missing_package(
        self, package: str, file_format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        find = export.optional_import
        missing = lambda name: (None, False) if name.startswith(package) else find(name)  # noqa: E731
        monkeypatch.setattr(export, "optional_import", missing)
        with pytest.raises(ImportError, match=r"take (another|the) format"):
            export_bundle(BUNDLE, file_format, tmp_path / "model", tmp_path / "absent.pt")


def test_the_command_says_what_it_wrote(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.ts"
    settings = [text for key, value in SETTINGS.items() for text in ("--set", f"{key}={value}")]
    assert (
        main(["export", str(BUNDLE), "--format", "ts", "--weights", str(weights), "--output", str(path), *settings])
        == 0
    )
    out = capsys.readouterr().out
    assert out.startswith(f"{path}: ")
    assert "logits: (batch, 4, height, width): background, right ventricle, myocardium, left ventricle" in out
    assert f"use:    torch.jit.load({str(path)!r})(images)" in out
