# SPDX-License-Identifier: Apache-2.0
"""Two sites whose scans differ, by MONAI's own client: together they learn what neither does alone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import ACDC, BUNDLES
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, ModelType
from monai.fl.utils.exchange_object import ExchangeObject

from monai_sam2adapter.data import write_acdc_phantom
from monai_sam2adapter.networks.nets import PromptFreeSAM2
from monai_sam2adapter.networks.weights import save_sam2_checkpoint

PAGE = BUNDLES.parent / "docs" / "federated.md"
ROUNDS, LOCAL_EPOCHS = 3, 4
OPTIONS = {
    **{"adapter": "lw", "image_size": 48, "batch_size": 4, "learning_rate": 2e-3, "epochs": ROUNDS * LOCAL_EPOCHS},
    **{"device": "cpu", "num_workers": 0},
}


def write_site(folder: Path, seed: int, inverted: bool) -> None:
    """A copy of the bundle, and scans that are bright where those of the other site are dark."""
    write_acdc_phantom(folder / "data", num_train=1, num_val=1, num_test=0, seed=seed, progress=False)
    for path in (folder / "data").rglob("*_frame??.nii.gz") if inverted else ():
        image = nib.load(path)
        voxels = np.asarray(image.dataobj).astype(np.float32)
        nib.save(nib.Nifti1Image(voxels.max() - voxels, image.affine, image.header), path)
    shutil.copytree(ACDC, folder / "bundle", ignore=shutil.ignore_patterns("models", "eval"))


def write_base(folder: Path) -> Path:
    """SAM 2's weights, but random."""
    torch.manual_seed(5)
    base = folder / "sam2_hiera_tiny.pt"
    save_sam2_checkpoint(PromptFreeSAM2("tiny", adapter="full", positional_encoding="sam2"), base)
    return base


def write_options(site: Path, base: Path, output_dir: str) -> None:
    own = {"dataset_dir": str(site / "data"), "sam2_checkpoint": str(base), "output_dir": str(site / output_dir)}
    (site / "site.json").write_text(json.dumps({**OPTIONS, **own}), encoding="utf-8")


def client(site: Path, base: Path, output_dir: str) -> MonaiAlgo:
    """As docs/federated.md says."""
    write_options(site, base, output_dir)
    files = ["configs/train.json", str(site / "site.json")]
    algo = MonaiAlgo(
        str(site / "bundle"),
        local_epochs=LOCAL_EPOCHS,
        send_weight_diff=False,
        config_train_filename=files,
        config_evaluate_filename=files,
        config_filters_filename=[*files, "configs/federated.json"],
        best_model_filepath=str(site / output_dir / "model.pt"),
        final_model_filepath=str(site / output_dir / "last.pt"),
        save_dict_key="network",
    )
    algo.initialize({ExtraItems.CLIENT_NAME: site.name})
    return algo


def train(clients: list[MonaiAlgo]) -> ExchangeObject:
    """Rounds of federated averaging; of one client, its training alone."""
    weights = clients[0].get_weights()
    for _ in range(ROUNDS):
        sent = []
        for each in clients:
            each.train(weights)
            sent.append(each.get_weights())
        averaged = {name: sum(site.weights[name] for site in sent) / len(sent) for name in sent[0].weights}
        weights = ExchangeObject(weights=averaged, weight_type=sent[0].weight_type)
    return weights


@pytest.mark.slow
def test_the_averaged_model_is_better_than_either_sites_alone(tmp_path: Path) -> None:
    base = write_base(tmp_path)
    sites = [tmp_path / name for name in ("bright", "dark")]
    for site, seed in zip(sites, (0, 50), strict=True):
        write_site(site, seed, inverted=seed > 0)
    alone = [train([client(site, base, "alone")]) for site in sites]
    clients = [client(site, base, "models") for site in sites]
    together = train(clients)
    assert sum(tensor.numel() * 4 for tensor in together.weights.values()) < 8e6

    def score(weights: ExchangeObject) -> float:
        return float(np.mean([each.evaluate(weights).metrics["dice"] for each in clients]))

    assert score(together) > max(map(score, alone))

    best, final = (
        clients[0].get_weights({ExtraItems.MODEL_TYPE: kind}) for kind in (ModelType.BEST_MODEL, ModelType.FINAL_MODEL)
    )
    assert set(best.weights) == set(together.weights)
    assert set(final.weights) == set(best.weights) - {"checksum_of_base"}


def files_of_page() -> dict[str, Any]:
    shown = re.findall(r"```json title=(\S+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return {name: json.loads(text) for name, text in shown}


@pytest.mark.parametrize("options", [{"adapter": "hp"}, {"adapter": "lora"}, {"output_stride": 2}], ids=str)
def test_nvflares_server_sends_what_is_trained(options: dict[str, Any]) -> None:
    net = PromptFreeSAM2("tiny", in_channels=3, out_channels=4, **options)
    excluded = re.compile(files_of_page()["config_fed_server.json"]["components"][0]["args"]["exclude_vars"])
    sent = {name for name in net.state_dict() if not excluded.search(name)}
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert sent == trained | {name for name in net.added_state_names() if net.state_dict()[name].is_floating_point()}


@pytest.mark.slow
def test_nvflare_averages_what_its_sites_have_trained(tmp_path: Path) -> None:
    """By the job of docs/federated.md, in NVFlare's simulator."""
    pytest.importorskip("monai_nvflare", reason="monai-nvflare is missing; install the extra 'nvflare'")
    base = write_base(tmp_path)
    job = files_of_page()
    network = job["config_fed_server.json"]["components"][0]["args"]["model"]["args"]
    network |= {"adapter": OPTIONS["adapter"], "checkpoint": str(base)}
    job["config_fed_server.json"]["workflows"][0]["args"]["num_rounds"] = ROUNDS
    site = job["config_fed_client.json"]["components"][0]["args"]
    site["local_epochs"] = LOCAL_EPOCHS
    text = json.dumps(job["config_fed_client.json"])
    files = {"meta.json": job["meta.json"], "server/config/config_fed_server.json": job["config_fed_server.json"]}
    sites = [tmp_path / name for name in ("site-1", "site-2")]
    for folder, seed in zip(sites, (0, 50), strict=True):
        write_site(folder, seed, inverted=seed > 0)
        write_options(folder, base, "models")
        own = text.replace(site["bundle_root"], str(folder / "bundle")).replace("/etc/site.json", f"{folder}/site.json")
        own = own.replace("models/last.pt", f"{folder}/models/last.pt")
        files[f"{folder.name}/config/config_fed_client.json"] = json.loads(own)
    for name, content in files.items():
        (tmp_path / "job" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "job" / name).write_text(json.dumps(content), encoding="utf-8")
    (command,) = [
        line.split()
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("    nvflare simulator")
    ]
    program = str(Path(sys.executable).with_name(command[0]))
    subprocess.run([program, *command[1:]], cwd=tmp_path, check=True, timeout=1800)

    (file,) = (tmp_path / "workspace").rglob("FL_global_model.pt")
    averaged = torch.load(file, weights_only=False)["model"]
    states = [torch.load(folder / "models" / "last.pt", weights_only=True) for folder in sites]
    assert [state["epoch"] for state in states] == [ROUNDS * LOCAL_EPOCHS] * 2
    first, second = (state["network"] for state in states)
    steps = [state["iteration"] for state in states]
    trained = [name for name in first if name in averaged and first[name].is_floating_point()]
    assert any(not torch.equal(first[name], second[name]) for name in trained)
    for name in trained:
        mean = (steps[0] * first[name] + steps[1] * second[name]) / sum(steps)
        torch.testing.assert_close(averaged[name], mean, atol=1e-5, rtol=1e-4)
    weights = ExchangeObject(weights={name: averaged[name] for name in (*trained, "checksum_of_base")})
    scores = [client(folder, base, "averaged").evaluate(weights).metrics["dice"] for folder in sites]
    print(f"Dice of the averaged model at the sites: {scores[0]:.3f} and {scores[1]:.3f}")
    assert min(scores) > 0
