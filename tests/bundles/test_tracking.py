# SPDX-License-Identifier: Apache-2.0
"""MONAI's own ``--tracking mlflow`` on a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bundle_runs import ACDC, config_of, run, train
from monai.bundle import ConfigWorkflow

from monai_sam2adapter.data import write_acdc_phantom


@pytest.mark.parametrize("names", [("train",), ("train", "evaluate")], ids=["training", "evaluation"])
def test_its_settings_fit_into_every_bundle(names: tuple[str, ...], bundle: Path, tmp_path: Path) -> None:
    workflow = ConfigWorkflow(
        workflow_type="train", config_file=config_of(bundle, *names), logging_file=False, tracking="mlflow",
        bundle_root=str(bundle), output_dir=str(tmp_path), experiment_name="mine",
    )  # fmt: skip
    workflow.initialize()
    for part in ("train", "validate"):
        handlers = workflow.parser.get(f"{part}#handlers")
        assert [handler["_target_"] for handler in handlers].count("MLFlowHandler") == 1
    assert len(list(tmp_path.glob("config_*.json"))) == 1


def test_training_and_evaluation_are_tracked(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is missing; install the extra 'tracking'")
    write_acdc_phantom(tmp_path / "data", num_train=1, num_val=1, num_test=1, progress=False)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/runs.db")

    def tracked(name: str) -> Any:
        experiment = client.get_experiment_by_name("acdc")
        (found,) = (r for r in client.search_runs(experiment.experiment_id) if r.info.run_name == name)
        return found

    options = {"tracking": "mlflow", "experiment_name": "acdc", "tracking_uri": f"sqlite:///{tmp_path}/runs.db"}
    models = tmp_path / "models"
    train(
        ACDC, tmp_path / "data", f"$'{models}'", **options, run_name="training", epochs=2, warmup_epochs=1,
        **{"train#trainer#epoch_length": 2},
    )  # fmt: skip
    found = tracked("training")
    assert found.info.status == "FINISHED"
    assert {"train_loss", "lr_group_0", "dice"} <= found.data.metrics.keys()
    rates = [each.value for each in client.get_metric_history(found.info.run_id, "lr_group_0")]
    assert {round(rate, 6) for rate in rates} == {0.0005, 0.001}
    dice = client.get_metric_history(found.info.run_id, "dice")
    assert [each.step for each in dice] == [1, 2]
    (artifact,) = client.list_artifacts(found.info.run_id)
    assert artifact.path.startswith("config_")

    run(
        ACDC, "evaluating", "train", "evaluate", dataset_dir=tmp_path / "data", output_dir=tmp_path / "eval",
        checkpoint_file=models / "model.pt", metrics=["dice", "volume_true_ml"], run_name="evaluation", **options,
    )  # fmt: skip
    assert tracked("evaluation").data.metrics.keys() >= {"dice", "volume_true_ml"}
