# SPDX-License-Identifier: Apache-2.0
"""Bundles as files that MONAI downloads and runs."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import monai.bundle.scripts
import pytest
import requests
import torch

from monai_sam2adapter.__main__ import main
from monai_sam2adapter.bundle import pack_bundle, packing
from monai_sam2adapter.data import LabelScheme, synapse_class_names, write_acdc_phantom
from monai_sam2adapter.networks.nets import PromptFreeSAM2

NAME = "acdc_cardiac_segmentation"
BUNDLE = Path(__file__).parents[2] / "bundles" / NAME
VERSION = json.loads((BUNDLE / "configs" / "metadata.json").read_text(encoding="utf-8"))["version"]
FILE = f"{NAME}_v{VERSION}.zip"
# other than the bundle's defaults, as a training may be
SETTINGS = {"adapter": "none", "positional_encoding": "sam2", "image_size": 32}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    net = PromptFreeSAM2("tiny", "none", positional_encoding="sam2", in_channels=1, out_channels=4)
    torch.save(net.state_dict(), path)
    return path


class SmallNetwork(torch.nn.Linear):
    """What packing asks of a network, for tests that are not about it."""

    config = {"in_channels": 1, "out_channels": 4}
    base_checkpoint: str | None = None


@pytest.fixture
def small_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of a small network, which takes the place of the bundle's."""
    path = tmp_path / "weights" / "model.pt"
    path.parent.mkdir()
    torch.save(SmallNetwork(2, 2).state_dict(), path)
    build = packing._build
    monkeypatch.setattr(
        packing,
        "_build",
        lambda config, part: SmallNetwork(2, 2) if part == "network_def" else build(config, part),
    )
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the bundle, with what runs leave in it."""
    copy = tmp_path / "bundles" / NAME
    shutil.copytree(BUNDLE, copy)
    for leftover in (
        *("models/model.pt", "models/last.pt", "models/tensorboard/events", "eval/cases.csv", "data/patient.nii.gz"),
        *("configs/.train.json.swp", "docs/.DS_Store", "scripts/__pycache__/net.pyc", "notes.txt", ".git/HEAD"),
    ):
        (copy / leftover).parent.mkdir(parents=True, exist_ok=True)
        (copy / leftover).write_text("left over", encoding="utf-8")
    return copy


def change_metadata(bundle: Path, **changes: Any) -> None:
    path = bundle / "configs" / "metadata.json"
    content = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")


class TestContent:
    def test_holds_the_bundle_and_its_weights_alone(self, bundle: Path, small_weights: Path, tmp_path: Path) -> None:
        packed = pack_bundle(bundle, small_weights, tmp_path, settings=SETTINGS)
        assert packed.path == tmp_path / FILE
        with zipfile.ZipFile(packed.path) as archive:
            names = archive.namelist()
            assert archive.read(f"{NAME}/models/model.pt") == small_weights.read_bytes()
            assert archive.read(f"{NAME}/LICENSE") == (BUNDLE / "LICENSE").read_bytes()
        configs = [f"{NAME}/configs/{path.name}" for path in (BUNDLE / "configs").iterdir()]
        docs = [f"{NAME}/docs/{path.name}" for path in (BUNDLE / "docs").iterdir()]
        assert names == sorted([*configs, *docs, f"{NAME}/LICENSE", f"{NAME}/models/model.pt"])

    @pytest.mark.parametrize("prefix", ["", "_orig_mod."])
    def test_weights_that_are_wrapped_are_packed_flat(
        self, prefix: str, bundle: Path, small_weights: Path, tmp_path: Path
    ) -> None:
        flat = torch.load(small_weights, weights_only=True)
        named = {prefix + name: tensor for name, tensor in flat.items()}
        torch.save(named if prefix else {"model": named}, tmp_path / "wrapped.pt")
        packed = pack_bundle(bundle, tmp_path / "wrapped.pt", tmp_path / "out", settings=SETTINGS)
        with zipfile.ZipFile(packed.path) as archive, archive.open(f"{NAME}/models/model.pt") as file:
            torch.testing.assert_close(torch.load(io.BytesIO(file.read()), weights_only=True), flat, rtol=0, atol=0)

    def test_the_same_input_gives_the_same_bytes(self, bundle: Path, small_weights: Path, tmp_path: Path) -> None:
        first = pack_bundle(BUNDLE, small_weights, tmp_path / "first", settings=SETTINGS)
        second = pack_bundle(bundle, small_weights, tmp_path / "second", settings=SETTINGS)
        assert first.path.read_bytes() == second.path.read_bytes()
        assert first.checksum == hashlib.sha1(first.path.read_bytes()).hexdigest()

    def test_configs_are_as_they_were_but_for_the_settings(self, small_weights: Path, tmp_path: Path) -> None:
        packed = pack_bundle(BUNDLE, small_weights, tmp_path, settings=SETTINGS)
        with zipfile.ZipFile(packed.path) as archive:
            for name in ("train", "inference", "evaluate"):
                before = json.loads((BUNDLE / "configs" / f"{name}.json").read_text(encoding="utf-8"))
                after = json.loads(archive.read(f"{NAME}/configs/{name}.json"))
                changes = {**SETTINGS, "init_checkpoint": "$@bundle_root + '/models/model.pt'"}
                assert after == {**before, **{key: value for key, value in changes.items() if key in before}}
                assert list(after) == list(before)
            formats = json.loads(archive.read(f"{NAME}/configs/metadata.json"))["network_data_format"]
        assert formats["inputs"]["image"]["spatial_shape"] == formats["outputs"]["pred"]["spatial_shape"] == [32, 32]

    def test_metadata_follows_the_settings(self, tmp_path: Path) -> None:
        synapse = BUNDLE.with_name("synapse_multiorgan_segmentation")
        settings = {"adapter": "none", "positional_encoding": "sam2", "num_classes": 14, "num_neighbors": 1}
        net = PromptFreeSAM2("tiny", "none", "sam2", in_channels=3, out_channels=14)
        torch.save(net.state_dict(), tmp_path / "model.pt")
        packed = pack_bundle(synapse, tmp_path / "model.pt", tmp_path, settings=settings)
        with zipfile.ZipFile(packed.path) as archive:
            archive.extract(f"{synapse.name}/configs/metadata.json", tmp_path)
        path = tmp_path / synapse.name / "configs" / "metadata.json"
        metadata = json.loads(path.read_text(encoding="utf-8"))
        image, pred = (metadata["network_data_format"][side] for side in ("inputs", "outputs"))
        assert image["image"]["num_channels"] == 3
        assert image["image"]["channel_def"] == {"0": "slice -1", "1": "image", "2": "slice +1"}
        assert pred["pred"]["num_channels"] == 14
        names = list(synapse_class_names(14))
        assert list(pred["pred"]["channel_def"].values()) == names
        assert metadata["network_data_format"]["post_processed_outputs"]["pred"]["value_range"] == [0, 13]
        assert metadata["pred_classes"] == f"14 channels of logits: {', '.join(names)}"
        assert metadata["label_classes"].startswith(f"single channel data: 0 background, 1 {names[1]}, ")
        # the codes moved with the names: the spleen is 7 of 9 classes, and 1 of 14
        scheme = LabelScheme.from_metadata(metadata)
        assert scheme.codes[scheme.names.index("spleen")]["type"] == ["78961009", "SCT", "Spleen"]

    def test_model_info_keeps_what_it_held(self, small_weights: Path, tmp_path: Path) -> None:
        other = {"other_segmentation_v1.0.0": {"checksum": "0" * 40, "source": "https://example.org/other.zip"}}
        (tmp_path / "model_info.json").write_text(json.dumps(other), encoding="utf-8")
        packed = pack_bundle(BUNDLE, small_weights, tmp_path, "https://example.org/acdc.zip", SETTINGS)
        info = json.loads((tmp_path / "model_info.json").read_text(encoding="utf-8"))
        own = {"checksum": packed.checksum, "source": "https://example.org/acdc.zip"}
        assert info == {**other, FILE.removesuffix(".zip"): own}


class TestRefusals:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({}, "adapter hp.* Name its options by --set"),
            ({**SETTINGS, "adapter": "hpp"}, "hpp"),
            ({**SETTINGS, "adaptor": "none"}, "did you mean 'adapter'"),
            (
                {**SETTINGS, "network_def": 1},
                "no setting 'network_def'. Those that can be set: adapter, adapter_config, batch_size, .*tta",
            ),
            ({**SETTINGS, "bundle_root": "/"}, "no setting 'bundle_root'"),
            ({**SETTINGS, "num_neighbors": 1}, "in_channels 1 .num_neighbors 0.*in_channels 3 .num_neighbors 1"),
            ({**SETTINGS, "output_format": "nifti"}, "nifti"),
            ({**SETTINGS, "tta_flips": [0]}, "postprocessing|inferer in .* cannot be built: flips must be lists"),
        ],
        ids=[
            *("weights of other options", "misspelt value", "misspelt key", "no simple key", "no key of a user"),
            *("other channels", "wrong format", "wrong flips"),
        ],
    )
    def test_settings(self, settings: dict[str, Any], message: str, weights: Path, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=message):
            pack_bundle(BUNDLE, weights, tmp_path, settings=settings)
        assert not list(tmp_path.iterdir())

    def test_weights_that_are_missing_or_code(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="no trained weights"):
            pack_bundle(BUNDLE, tmp_path / "no.pt", tmp_path)
        torch.save(re.compile("code"), tmp_path / "code.pt")
        with pytest.raises(ValueError, match="unsafe"):
            pack_bundle(BUNDLE, tmp_path / "code.pt", tmp_path)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"version": "first"}, "'first'; expected three numbers"),
            ({"monai_version": None, "task": None}, "lacks monai_version, task"),
        ],
        ids=["version", "missing keys"],
    )
    def test_metadata(
        self, changes: dict[str, Any], message: str, bundle: Path, small_weights: Path, tmp_path: Path
    ) -> None:
        change_metadata(bundle, **changes)
        with pytest.raises(ValueError, match=message):
            pack_bundle(bundle, small_weights, tmp_path, settings=SETTINGS)

    def test_class_names_of_another_number(self, bundle: Path, small_weights: Path, tmp_path: Path) -> None:
        path = bundle / "configs" / "inference.json"
        config = {**json.loads(path.read_text(encoding="utf-8")), "class_names": ["background", "heart"]}
        path.write_text(json.dumps(config), encoding="utf-8")
        with pytest.raises(ValueError, match="1 channels in and 2 out, but the network has 1 and 4"):
            pack_bundle(bundle, small_weights, tmp_path, settings=SETTINGS)

    def test_metadata_without_channels(self, bundle: Path, small_weights: Path, tmp_path: Path) -> None:
        change_metadata(bundle, network_data_format={"inputs": {}})
        with pytest.raises(ValueError, match="must give num_channels of inputs/image"):
            pack_bundle(bundle, small_weights, tmp_path, settings={})

    def test_a_folder_that_is_no_bundle(self, small_weights: Path, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"no configs/inference\.json"):
            pack_bundle(tmp_path, small_weights, tmp_path)
        (tmp_path / "configs").mkdir()
        (tmp_path / "configs" / "inference.json").write_text("{", encoding="utf-8")
        with pytest.raises(ValueError, match=r"inference\.json is no valid JSON"):
            pack_bundle(tmp_path, small_weights, tmp_path)

    @pytest.mark.parametrize("name", ["heart_ventricle", "heart.mr", "heart mr"])
    def test_names_that_monai_cannot_download(self, name: str, small_weights: Path, tmp_path: Path) -> None:
        shutil.copytree(BUNDLE, tmp_path / name)
        with pytest.raises(ValueError, match="rename the folder"):
            pack_bundle(tmp_path / name, small_weights, tmp_path, settings=SETTINGS)

    def test_another_file_of_the_same_version(self, bundle: Path, small_weights: Path, tmp_path: Path) -> None:
        url = "https://example.org/acdc.zip"
        first = pack_bundle(bundle, small_weights, tmp_path, settings=SETTINGS)
        assert pack_bundle(bundle, small_weights, tmp_path, url, SETTINGS).checksum == first.checksum
        (bundle / "docs" / "README.md").write_text("changed", encoding="utf-8")
        with pytest.raises(FileExistsError, match="--overwrite"):
            pack_bundle(bundle, small_weights, tmp_path, url, SETTINGS)
        assert hashlib.sha1(first.path.read_bytes()).hexdigest() == first.checksum
        first.path.unlink()
        with pytest.raises(FileExistsError, match=r"model_info\.json holds"):
            pack_bundle(bundle, small_weights, tmp_path, url, SETTINGS)
        assert not first.path.exists()
        assert pack_bundle(bundle, small_weights, tmp_path, url, SETTINGS, overwrite=True).checksum != first.checksum


class TestCommand:
    def test_says_what_to_do_next(
        self, small_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        info = {f"{NAME}_v0.0.9": {"checksum": "0" * 40, "source": "https://example.org/old.zip"}}
        (tmp_path / "model_info.json").write_text(json.dumps(info), encoding="utf-8")
        settings = [argument for key, value in SETTINGS.items() for argument in ("--set", f"{key}={value}")]
        url = ["--url", "https://example.org/acdc.zip"]
        command = ["pack", str(BUNDLE), "--weights", str(small_weights), "--output_dir", str(tmp_path), *settings]
        assert main([*command, *url]) == 0
        out = capsys.readouterr().out
        assert hashlib.sha1((tmp_path / FILE).read_bytes()).hexdigest() in out
        assert f"monai.bundle download --name {NAME} --url https://example.org/acdc.zip" in out
        assert "--source github" in out
        assert "compares versions as text" not in out

    def test_warns_where_monai_would_download_another_version(
        self, small_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        info = {f"{NAME}_v9.0.0": {"checksum": "0" * 40, "source": "https://example.org/later.zip"}}
        (tmp_path / "model_info.json").write_text(json.dumps(info), encoding="utf-8")
        settings = [argument for key, value in SETTINGS.items() for argument in ("--set", f"{key}={value}")]
        assert (
            main(["pack", str(BUNDLE), "--weights", str(small_weights), "--output_dir", str(tmp_path), *settings]) == 0
        )
        assert f"without --version, 9.0.0 is downloaded and not {VERSION}" in capsys.readouterr().out

    def test_a_setting_without_value_is_an_error(self, small_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["pack", str(BUNDLE), "--weights", str(small_weights), "--set", "variant"]) == 2
        assert "must be KEY=VALUE" in capsys.readouterr().err


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Iterator[str]:
    """Serves the packed bundle and model_info.json as GitHub does: a release's file, and a file at a tag."""
    root = tmp_path_factory.mktemp("server")
    handler = partial(SimpleHTTPRequestHandler, directory=str(root))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        address = f"http://127.0.0.1:{http.server_port}"
        release = root / "someone" / "bundles" / "releases" / "download" / "tag"
        packed = pack_bundle(BUNDLE, weights, release, f"{address}/{FILE}", SETTINGS)
        at_tag = root / "someone" / "bundles" / "tag" / "models"
        at_tag.mkdir(parents=True)
        (release / "model_info.json").rename(at_tag / "model_info.json")
        shutil.copyfile(packed.path, root / FILE)
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield address
        http.shutdown()


class TestDownload:
    def test_from_an_address_and_runs_without_options(self, server: str, tmp_path: Path) -> None:
        arguments = ["download", "--name", NAME, "--url", f"{server}/{FILE}", "--bundle_dir", "."]
        run("monai.bundle", *arguments, folder=tmp_path)
        write_acdc_phantom(tmp_path / "acdc", num_train=1, num_val=0, num_test=0, progress=False)
        scans = tmp_path / "acdc" / "training" / "patient001"
        for path in (*scans.glob("*_gt.nii.gz"), scans / "Info.cfg"):
            path.unlink()  # a hospital has no truth
        arguments = ["run", "inference", "--config_file", "configs/inference.json", "--dataset_dir", str(scans)]
        run("monai.bundle", *arguments, folder=tmp_path / NAME)
        assert len(list((tmp_path / NAME / "prediction").rglob("*_seg.nii.gz"))) == 2

    @pytest.mark.parametrize("version", [VERSION, None], ids=["a version", "the latest"])
    def test_from_github(
        self, version: str | None, server: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []

        def redirect(url: str) -> str:
            asked.append(url)
            return re.sub(r"https://(github|raw\.githubusercontent)\.com", server, url)

        get, download_url = requests.get, monai.bundle.scripts.download_url
        monkeypatch.setattr(requests, "get", lambda url, **options: get(redirect(url), **options))
        monkeypatch.setattr(
            monai.bundle.scripts, "download_url", lambda url, **options: download_url(url=redirect(url), **options)
        )
        options = {"source": "github", "repo": "someone/bundles/tag", "bundle_dir": tmp_path, "progress": False}
        monai.bundle.download(name=NAME, version=version, **options)
        assert (tmp_path / NAME / "models" / "model.pt").read_bytes() == weights.read_bytes()
        assert asked[-1] == f"https://github.com/someone/bundles/releases/download/tag/{FILE}"


def run(module: str, *arguments: str, folder: Path) -> None:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class TestOwnData:
    """A bundle whose classes and channels are those of the data."""

    def test_what_was_chosen_from_the_data_goes_with_the_weights(self, tmp_path: Path) -> None:
        description = {
            **{"class_names": ["background", "liver", "tumor"], "channel_names": ["PET", "CT"], "num_channels": 2},
            **{"normalization": [{}, {"lower": 0, "upper": 1, "mean": 0, "std": 1}], "slice_axis": -3},
        }
        net = PromptFreeSAM2("tiny", "none", in_channels=2, out_channels=3)
        torch.save(net.state_dict(), tmp_path / "model.pt")
        bundle = BUNDLE.with_name("volume_segmentation")
        with pytest.raises(FileNotFoundError, match=r"no .*dataset\.json"):
            pack_bundle(bundle, tmp_path / "model.pt", tmp_path, settings={"adapter": "none"})
        (tmp_path / "dataset.json").write_text(json.dumps(description))
        packed = pack_bundle(bundle, tmp_path / "model.pt", tmp_path, settings={"adapter": "none"})
        with zipfile.ZipFile(packed.path) as archive:
            assert json.loads(archive.read(f"{bundle.name}/models/dataset.json")) == description
            train = json.loads(archive.read(f"{bundle.name}/configs/train.json"))
            metadata = json.loads(archive.read(f"{bundle.name}/configs/metadata.json"))
        assert train["default_description"] == description
        formats = metadata["network_data_format"]
        assert formats["inputs"]["image"]["channel_def"] == {"0": "PET", "1": "CT"}
        assert formats["outputs"]["pred"]["channel_def"] == {"0": "background", "1": "liver", "2": "tumor"}

    def test_classes_that_overlap_are_masks_and_have_no_background(self, tmp_path: Path) -> None:
        description = {
            **{"class_names": ["heart", "lung"], "channel_names": ["gray"], "num_channels": 1, "normalization": [{}]},
            "label_type": "overlapping",
        }
        net = PromptFreeSAM2("tiny", "none", in_channels=1, out_channels=2)
        torch.save(net.state_dict(), tmp_path / "model.pt")
        (tmp_path / "dataset.json").write_text(json.dumps(description))
        bundle = BUNDLE.with_name("picture_segmentation")
        packed = pack_bundle(bundle, tmp_path / "model.pt", tmp_path, settings={"adapter": "none"})
        with zipfile.ZipFile(packed.path) as archive:
            metadata, train = (
                json.loads(archive.read(f"{bundle.name}/configs/{name}.json")) for name in ("metadata", "train")
            )
        assert train["label_type"] == "overlapping", "a further training has labels of the same kind"
        formats = metadata["network_data_format"]
        assert formats["outputs"]["pred"]["channel_def"] == {"0": "heart", "1": "lung"}
        found = formats["post_processed_outputs"]["pred"]
        assert (found["num_channels"], found["value_range"]) == (2, [0, 1])
        assert found["channel_def"] == {"0": "heart", "1": "lung"}
        assert metadata["label_classes"] == "one mask a class, which may overlap: heart, lung"


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("docs/notes.txt", "/etc/passwd"),
        ("docs/more", ".."),  # a folder, and up to the bundle's own data
        ("configs/extra.json", "../../secret.json"),
        ("docs/case.nii.gz", "../data/patient.nii.gz"),  # in the bundle, but not for the file
        ("docs/nowhere", "nothing"),
        ("docs/one", "two"),  # by another link
        ("LICENSE.others", "../secret.json"),
        ("scripts", "../secrets"),
    ],
)
def test_links_that_lead_out_of_what_is_packed_are_refused(
    bundle: Path, small_weights: Path, tmp_path: Path, link: str, target: str
) -> None:
    (bundle.parent / "secret.json").write_text("{}", encoding="utf-8")
    (bundle.parent / "secrets").mkdir()
    (bundle.parent / "secrets" / "key").write_text("secret", encoding="utf-8")
    (bundle / "docs" / "two").symlink_to("../../secret.json")
    if link != "docs/one":
        (bundle / "docs" / "two").unlink()
    shutil.rmtree(bundle / "scripts", ignore_errors=True)
    (bundle / link).symlink_to(target)
    with pytest.raises(ValueError, match=r"is a link to .*put a copy in its place"):
        pack_bundle(bundle, small_weights, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_link_between_packed_files_is_packed_as_a_copy(bundle: Path, small_weights: Path, tmp_path: Path) -> None:
    (bundle / "docs" / "LICENSE").symlink_to("../LICENSE")
    with zipfile.ZipFile(pack_bundle(bundle, small_weights, tmp_path / "out").path) as packed:
        assert packed.read(f"{NAME}/docs/LICENSE") == (BUNDLE / "LICENSE").read_bytes()
