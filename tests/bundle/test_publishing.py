# SPDX-License-Identifier: Apache-2.0
"""Bundles as repositories of a hub: pushed by one user, downloaded and run by another."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import monai.bundle
import numpy as np
import pytest
import torch
from hub_server import TOKEN, Hub, Repo, serve_hub
from huggingface_hub import constants, hf_api

from monai_sam2adapter.__main__ import main
from monai_sam2adapter.data import write_acdc_phantom
from monai_sam2adapter.networks.nets import PromptFreeSAM2
from monai_sam2adapter.reports import evaluation_results, write_report
from monai_sam2adapter.utils.files import sha256_of_file

NAME, REPO = "acdc_cardiac_segmentation", "someone/heart"
SETTINGS = {"adapter": "none", "positional_encoding": "sam2", "image_size": 32}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(
        PromptFreeSAM2("tiny", "none", positional_encoding="sam2", in_channels=1, out_channels=4).state_dict(), path
    )
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("bundles") / NAME
    shutil.copytree(Path(__file__).parents[2] / "bundles" / NAME, copy)
    return copy


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with serve_hub() as hub:
        yield hub


def call(hub: Hub, folder: Path, *arguments: object) -> subprocess.CompletedProcess:
    """A command of a user of this hub, who has put the token into the environment."""
    environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN, "HF_HOME": str(folder / ".hub")}
    environment |= {"HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def publishing(bundle: Path, weights: Path, *options: object) -> list[str]:
    settings = [text for key, value in SETTINGS.items() for text in ("--set", f"{key}={value}")]
    return list(map(str, ["publish", bundle, REPO, "--weights", weights, *settings, *options]))


@pytest.fixture
def at_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is one of a user of this hub: what huggingface_hub reads of the environment when it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(hf_api.api, "endpoint", hub.address)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", template.replace("https://huggingface.co", hub.address)
    )
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def set_version(bundle: Path, version: str) -> None:
    path = bundle / "configs" / "metadata.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**metadata, "version": version}), encoding="utf-8")


def write_evaluation(folder: Path, weights: Path) -> None:
    scores = {"dice": np.array([[0.8, 0.9, np.nan], [0.6, 0.7, np.nan]])}
    results = evaluation_results(["a", "b"], ["right", "myo|cardium", "left"], scores)
    about = {"data": "two <hearts>", "checkpoint": f"model.pt, SHA-256 {sha256_of_file(weights)}"}
    write_report({"title": "Hearts", "about": about, **results}, folder)


@pytest.mark.slow
def test_a_bundle_is_published_downloaded_and_run(hub: Hub, bundle: Path, weights: Path, tmp_path: Path) -> None:
    set_version(bundle, "1.2.0")
    write_evaluation(tmp_path / "eval", weights)
    command = publishing(bundle, weights, "--evaluation", tmp_path / "eval")
    done = call(hub, tmp_path, "monai_sam2adapter", *command)
    assert done.returncode == 0, done.stderr
    repo = hub.repos[REPO]
    assert repo.private
    assert set(repo.tags) == {"1.2.0", "latest_version"}
    card = repo.commits[repo.head]["README.md"].decode()
    assert card.startswith("---\ntags:\n- monai\n- medical\nlibrary_name: monai\nlicense: apache-2.0\n---\n")
    assert "| class | dice |\n| --- | --- |\n| right | 0.700 (0.600 to 0.800) |\n| myo&#124;cardium | 0.800" in card
    assert "| left | no value |" in card
    assert "Of 2 cases" in card
    assert "No weights are published" not in card
    assert "# License" in card

    line = next(line for line in done.stdout.splitlines() if "monai.bundle download" in line)
    assert line.split()[1:3] == ["-m", "monai.bundle"]
    got = call(hub, tmp_path, *line.split()[2:])
    assert got.returncode == 0, got.stderr
    assert (tmp_path / NAME / "models" / "model.pt").read_bytes() == weights.read_bytes()
    write_acdc_phantom(tmp_path / "acdc", num_train=1, num_val=0, num_test=0, progress=False)
    scans = tmp_path / "acdc" / "training" / "patient001"
    for path in (*scans.glob("*_gt.nii.gz"), scans / "Info.cfg"):
        path.unlink()
    config = ["run", "inference", "--config_file", "configs/inference.json", "--dataset_dir", scans]
    ran = call(hub, tmp_path / NAME, "monai.bundle", *config)
    assert ran.returncode == 0, ran.stderr
    assert len(list((tmp_path / NAME / "prediction").rglob("*_seg.nii.gz"))) == 2


@pytest.mark.usefixtures("at_hub")
def test_versions_stay_and_the_latest_is_the_highest(
    hub: Hub, bundle: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repos[REPO] = repo = Repo()
    (bundle / "docs" / "extra.md").write_text("more", encoding="utf-8")
    set_version(bundle, "1.2.0")
    assert main(publishing(bundle, weights)) == 0
    assert "published without scores" in repo.commits[repo.head]["README.md"].decode()
    before = dict(repo.tags)
    assert main(publishing(bundle, weights)) == 2
    assert "has the version 1.2.0 already" in capsys.readouterr().err
    assert repo.tags == before

    (bundle / "docs" / "extra.md").unlink()
    set_version(bundle, "1.10.0")
    assert main(publishing(bundle, weights)) == 0
    assert repo.tags["latest_version"] == repo.tags["1.10.0"] != before["1.2.0"] == repo.tags["1.2.0"]
    assert "docs/extra.md" in repo.commits[repo.tags["1.2.0"]]
    assert "docs/extra.md" not in repo.commits[repo.tags["1.10.0"]]

    set_version(bundle, "1.9.0")  # a correction of an older one
    assert main(publishing(bundle, weights)) == 0
    assert "A later version is there" in capsys.readouterr().out
    assert repo.tags["latest_version"] == repo.tags["1.10.0"] != repo.tags["1.9.0"]
    monai.bundle.download(name=NAME, source="huggingface_hub", repo=REPO, bundle_dir=str(tmp_path))
    metadata = json.loads((tmp_path / NAME / "configs" / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["version"] == "1.10.0"


@pytest.mark.usefixtures("at_hub")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--evaluation", "."], "holds no results.json"),
        (["--evaluation", "others"], "evaluate the weights that are published"),
        (["--set", "adaptor=hp"], "did you mean 'adapter'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_pushed(
    options: list[str],
    message: str,
    hub: Hub,
    bundle: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other.pt"
    other.write_bytes(b"other")
    write_evaluation(tmp_path / "others", other)
    hub.repos.clear()
    assert main(publishing(bundle, weights, *options)) == 2
    assert message in capsys.readouterr().err
    assert not hub.repos


@pytest.mark.usefixtures("at_hub")
def test_without_a_token_the_server_says_so(
    hub: Hub, bundle: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repos.clear()
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert main(publishing(bundle, weights)) == 2
    assert "401" in capsys.readouterr().err
    assert not hub.repos


def test_a_repository_has_an_owner(bundle: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", str(bundle), "heart", "--weights", str(weights)]) == 2
    assert "must be OWNER/NAME" in capsys.readouterr().err
