# SPDX-License-Identifier: Apache-2.0
"""docs/cluster.md: its batch script runs, and its manifests are what Kubernetes takes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from monai_sam2adapter.data import write_acdc_phantom

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
# SLURM's commands: both tasks run here
SLURM = {
    "scontrol": '[ "$*" = "show hostnames node[1-2]" ] && printf "127.0.0.1\\nnode2\\n"',
    "srun": 'for task in 0 1; do SLURM_PROCID=$task SLURM_LOCALID=0 "$@" & tasks="$! ${tasks:-}"; done\n'
    'for task in $tasks; do wait "$task" || exit 1; done',
}


def block(title: str) -> str:
    (found,) = re.findall(rf"```\w+ title={re.escape(title)}\n(.*?)```", TEXT, re.DOTALL)
    return found


def test_kubernetes_takes_the_manifests() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="install the extra 'dev'")
    service, job = yaml.safe_load_all(block("train.yaml"))
    version = kubernetes_validate.latest_version()
    for manifest in (service, job):
        kubernetes_validate.validate(manifest, version, strict=True)
    # what the schemas do not tell: the names by which the pods find each other
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert service["metadata"]["name"] == pod["subdomain"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert f"--rdzv_endpoint={job['metadata']['name']}-0.{pod['subdomain']}:29500" in container["args"]
    assert f"--nnodes={job['spec']['completions']}" in container["args"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    broken = {**job, "spec": {**job["spec"], "completion": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, version, strict=True)


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """An environment with SLURM's variables and commands, and this interpreter's torchrun."""
    folder = tmp_path / "bin"
    folder.mkdir()
    commands = {**SLURM, "torchrun": f'exec "{sys.executable}" -m torch.distributed.run "$@"'}
    for name, text in commands.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    job = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}
    path = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": ""}
    return {**os.environ, **path, **job, "PYTHONPATH": str(ROOT)}


@pytest.mark.slow
def test_the_batch_script_trains_and_goes_on_when_submitted_again(tmp_path: Path, slurm: dict[str, str]) -> None:
    write_acdc_phantom(tmp_path / "ACDC", num_train=1, num_val=2, num_test=0, progress=False)
    script = block("train.sbatch")
    for line, here in {
        "DATA=/shared/data/ACDC": f"DATA={tmp_path / 'ACDC'}",
        "OUT=/shared/runs/acdc_hp": f"OUT={tmp_path / 'runs'}",
        "--nproc_per_node gpu": "--nproc_per_node 2",
        "--sam2_checkpoint /shared/weights/sam2.1_hiera_tiny.pt": "--sam2_checkpoint random --image_size 32",
        "OMP_NUM_THREADS=8": "OMP_NUM_THREADS=1",
        "--num_workers 8": "--num_workers 0 --epochs $EPOCHS",
    }.items():
        assert script.count(line) == 1
        script = script.replace(line, here)
    for epochs in ("1", "2"):
        run = ["bash", "-c", script]
        done = subprocess.run(
            run, env={**slurm, "EPOCHS": epochs}, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert torch.load(tmp_path / "runs" / "last.pt", weights_only=True)["epoch"] == int(epochs)
    assert (tmp_path / "runs" / "model.pt").is_file()
