# SPDX-License-Identifier: Apache-2.0
"""The scripts of benchmarks/ run: once, on little, whatever they measure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from monai_sam2adapter.data import write_acdc_phantom

ROOT = Path(__file__).parents[1]
# the least of each, by its options; {acdc} is a folder of phantoms, {results} a table of a comparison
SMALL = {
    "adapted_network": "--threads 1 --repeats 1 --variants tiny --adapters lw --size 64 --batch 1 --tables overhead",
    "data_wait": "--dataset_dir {acdc} --step_ms 1 --workers 0 --volumes 2 --repeats 1",
    "deform_conv": "--repeats 1 --threads 1",
    "encoder": "--repeats 1 --threads 1 --variants tiny --sizes 64",
    "from_scratch": "acdc_cardiac_segmentation --dataset_dir {acdc} --output_dir {out} --methods unet full hp "
    "--minutes 0.02 --image_size 32 --val_interval 1",
    "large_picture": "--size 300 --tile 64 --network lw --threads 1",
    "learning_curve": "{results} {out}.png",
    "lean_step": "--dataset_dir {acdc} --repeats 1",
    "slice_memory": "--volumes 2 --shape 40 40 8 --slices 4",
    "volumes": "--shape 40 40 4 --cases 1 --repeats 1 --image_size 32 --classes 3",
}


def test_every_script_is_here() -> None:
    scripts = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text("utf-8")}
    assert scripts == SMALL.keys()


@pytest.mark.slow
@pytest.mark.parametrize("script", SMALL)
def test_the_script_runs(script: str, tmp_path: Path) -> None:
    write_acdc_phantom(tmp_path / "acdc", num_train=2, num_val=1, num_test=1, progress=False)
    results = tmp_path / "results.csv"
    results.write_text(
        "dataset,method,metric,state,score\nHearts 5,lw,dice,finished,0.5\nHearts 10,lw,dice,finished,0.6\n"
    )
    options = SMALL[script].format(acdc=tmp_path / "acdc", out=tmp_path / "out", results=results).split()
    command = [sys.executable, str(ROOT / "benchmarks" / f"{script}.py"), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=570, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
