# SPDX-License-Identifier: Apache-2.0
"""All handlers, metrics and the inferer together, from a JSON config and on two processes."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import run

OURS = "monai_sam2adapter"


def loader(key: str) -> dict[str, Any]:
    dataset = {"_target_": "monai.data.Dataset", "data": f"@{key}"}
    return {"_target_": "monai.data.DataLoader", "dataset": dataset, "batch_size": 1}


def config() -> dict[str, Any]:
    """A training of a 2D network on slices, validated on volumes."""
    return {
        "imports": ["$import torch", "$from monai.data import MetaTensor"],
        "output_dir": "out",
        "metrics": ["dice", "iou", "hd95_mm", "asd_mm", "miou_pooled"],
        "epochs": 2,
        "resume": False,
        "overwrite": False,
        "slices": "$[{'image': torch.rand(1, 16, 16), 'label': torch.randint(0, 3, (1, 16, 16))} for _ in range(2)]",
        "volumes": "$[{'case': f'case{n}', 'image': MetaTensor(torch.rand(1, 12, 10, 3)), "
        "'label': MetaTensor(torch.randint(0, 3, (1, 12, 10, 3)))} for n in range(2)]",
        "network_def": {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 3, "kernel_size": 1},
        "network": "$@network_def.to('cpu')",
        "loss": {"_target_": "monai.losses.DiceCELoss", "to_onehot_y": True, "softmax": True},
        "optimizer": {"_target_": "torch.optim.Adam", "params": "$@network.parameters()", "lr": 0.1},
        "lr_scheduler": {
            "_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "optimizer": "@optimizer", "T_max": "@epochs",
        },
        "writer": {"_target_": "torch.utils.tensorboard.SummaryWriter", "log_dir": "@output_dir"},
        "train": {
            "handlers": [
                {"_target_": "monai.handlers.ValidationHandler", "validator": "@validate#evaluator", "interval": 1},
                {"_target_": "monai.handlers.LrScheduleHandler", "lr_scheduler": "@lr_scheduler"},
                {"_target_": f"{OURS}.handlers.NonFiniteLossHandler"},
                {"_target_": f"{OURS}.handlers.EpochProgressBar"},
                {
                    "_target_": f"{OURS}.handlers.TrainingCheckpoint",
                    "output_dir": "@output_dir",
                    "network": "@network",
                    "optimizer": "@optimizer",
                    "lr_scheduler": "@lr_scheduler",
                    "evaluator": "@validate#evaluator",
                    "resume": "@resume",
                    "overwrite": "@overwrite",
                },
            ],
            "trainer": {
                "_target_": "monai.engines.SupervisedTrainer",
                "device": "cpu",
                "max_epochs": "@epochs",
                "train_data_loader": loader("slices"),
                "network": "@network",
                "optimizer": "@optimizer",
                "loss_function": "@loss",
                "train_handlers": "@train#handlers",
            },
        },
        "validate": {
            "evaluator": {
                "_target_": "monai.engines.SupervisedEvaluator",
                "device": "cpu",
                "val_data_loader": loader("volumes"),
                "network": "@network",
                "inferer": {"_target_": f"{OURS}.inferers.VolumeSliceInferer", "spatial_size": [16, 16]},
                "postprocessing": {
                    "_target_": "monai.transforms.AsDiscreted",
                    "keys": ["pred", "label"],
                    "argmax": [True, False],
                    "to_onehot": 3,
                },
                "key_val_metric": {
                    "dice": {"_target_": f"{OURS}.handlers.CaseScoresHandler", "metrics": "@metrics"}
                },
                "val_handlers": [
                    {
                        "_target_": f"{OURS}.handlers.CaseReportSaver",
                        "output_dir": "@output_dir",
                        "class_names": ["a", "b"],
                        "metrics": "@metrics",
                    },
                    {
                        "_target_": f"{OURS}.handlers.OverlayImageHandler",
                        "class_names": ["a", "b"],
                        "summary_writer": "@writer",
                        "output_dir": "@output_dir",
                    },
                ],
            }
        },
        "run": ["$@train#trainer.run()"],
    }  # fmt: skip


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.json").write_text(json.dumps(config()))
    return str(tmp_path / "train.json")


def test_bundle_trains_reports_and_resumes(config_file: str) -> None:
    run(config_file=config_file)
    assert {"last.pt", "model.pt", "cases.csv", "report.html", "case0.png", "case1.png"} < set(os.listdir("out"))
    with pytest.raises(RuntimeError) as raised:
        run(config_file=config_file)
    assert "out holds last.pt and model.pt of an earlier run" in str(raised.value.__cause__)
    run(config_file=config_file, resume=True, epochs=3)
    assert torch.load("out/last.pt", weights_only=True)["epoch"] == 3


def test_bundle_with_nan_loss_fails(config_file: str) -> None:
    with pytest.raises(RuntimeError) as raised:
        run(config_file=config_file, loss="$lambda pred, label: (pred * float('nan')).mean()")
    # the config parser wraps what goes wrong inside an expression
    assert "the loss is nan at epoch 1, iteration 1, learning rate 0.1" in str(raised.value.__cause__)
    assert not os.path.exists("out/last.pt")


TWO_PROCESSES = """
import sys, torch, torch.distributed as dist
from monai.bundle import ConfigParser
dist.init_process_group("gloo")
rank = dist.get_rank()
config = ConfigParser.load_config_file(sys.argv[1])
config["volumes"] = config["volumes"].replace("range(2)", f"({rank}, {rank + 2})")
config["network"] = "$torch.nn.parallel.DistributedDataParallel(@network_def)"
parser = ConfigParser(config)
torch.manual_seed(0)
parser.get_parsed_content("run")
dist.barrier()
dist.destroy_process_group()
"""


def test_two_processes_write_one_report_of_all_cases_and_plain_weights(config_file: str, run_two_processes) -> None:
    errors = run_two_processes(TWO_PROCESSES, config_file)
    assert "Epoch 2/2" in errors[0]
    assert "Epoch 2/2" not in errors[1]
    with open("out/cases.csv", newline="") as file:
        assert [row["case"] for row in csv.DictReader(file)] == [f"case{n}" for n in (0, 0, 1, 1, 2, 2, 3, 3)]
    assert set(torch.load("out/model.pt", weights_only=True)) == {"weight", "bias"}
