# SPDX-License-Identifier: Apache-2.0
"""Two sites whose scans differ, by MONAI's own client: together they learn what neither does alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import ACDC
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, ModelType
from monai.fl.utils.exchange_object import ExchangeObject

from monai_sam2adapter.data import write_acdc_phantom
from monai_sam2adapter.networks.nets import PromptFreeSAM2
from monai_sam2adapter.networks.weights import save_sam2_checkpoint

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


def client(site: Path, base: Path, output_dir: str) -> MonaiAlgo:
    """As docs/federated.md says."""
    own = {"dataset_dir": str(site / "data"), "sam2_checkpoint": str(base), "output_dir": str(site / output_dir)}
    (site / "site.json").write_text(json.dumps({**OPTIONS, **own}), encoding="utf-8")
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
    torch.manual_seed(5)
    base = tmp_path / "sam2_hiera_tiny.pt"
    save_sam2_checkpoint(PromptFreeSAM2("tiny", adapter="full", positional_encoding="sam2"), base)
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
