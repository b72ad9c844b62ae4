# SPDX-License-Identifier: Apache-2.0
"""The wheel and the source distribution hold the package, and a downloaded bundle runs with the wheel alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from monai_sam2adapter.bundle import pack_bundle
from monai_sam2adapter.data import write_acdc_phantom
from monai_sam2adapter.networks.nets import PromptFreeSAM2

ROOT = Path(__file__).parents[1]
PACKAGE = "monai_sam2adapter"
NAME, CONFIG = "acdc_cardiac_segmentation", "configs/inference.json"
# by the interface that pip calls
BUILD = "from setuptools import build_meta; build_meta.build_wheel('dist'); build_meta.build_sdist('dist')"


def package_files(folder: Path) -> set[str]:
    return {
        (Path(place) / name).relative_to(folder).as_posix()
        for place, _, names in os.walk(folder / PACKAGE, followlinks=True)
        for name in names
        if "__pycache__" not in Path(place).parts
    }


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both, built in a copy of the checkout."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("setup.cfg", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, copy / name)
    shutil.copytree(ROOT / PACKAGE, copy / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-c", BUILD], cwd=copy, check=True, capture_output=True, timeout=120)
    return copy / "dist"


@pytest.fixture(scope="module")
def installed(dist: Path) -> Path:
    """The wheel unpacked, as an installation does."""
    folder = dist.parent / "installed"
    with zipfile.ZipFile(*dist.glob("*.whl")) as wheel:
        wheel.extractall(folder)
    return folder


def test_the_wheel_holds_every_file_of_the_package(installed: Path) -> None:
    assert package_files(installed) == package_files(ROOT)


def test_so_does_the_source_distribution(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert package_files(ROOT) | {"setup.cfg", "README.md", "LICENSE"} <= names


@pytest.mark.slow
def test_a_downloaded_bundle_runs_without_a_checkout(installed: Path, tmp_path: Path) -> None:
    settings = {"adapter": "none", "positional_encoding": "sam2", "image_size": 32}
    net = PromptFreeSAM2("tiny", "none", positional_encoding="sam2", in_channels=1, out_channels=4)
    torch.save(net.state_dict(), tmp_path / "model.pt")
    packed = pack_bundle(ROOT / "bundles" / NAME, tmp_path / "model.pt", tmp_path, settings=settings)
    with zipfile.ZipFile(packed.path) as archive:
        archive.extractall(tmp_path)
    write_acdc_phantom(tmp_path / "acdc", num_train=1, num_val=0, num_test=0, progress=False)
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}

    def python(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        options = {"cwd": tmp_path / NAME, "env": environment, "timeout": 300}
        return subprocess.run(command, capture_output=True, text=True, check=True, **options).stdout

    assert str(installed) in python("-c", f"import {PACKAGE}; print({PACKAGE}.__file__)")
    scan = tmp_path / "acdc" / "training" / "patient001" / "patient001_frame01.nii.gz"
    python("-m", "monai.bundle", "run", "inference", "--config_file", CONFIG, "--dataset_dir", str(scan))
    assert len(list((tmp_path / NAME / "prediction").rglob("*_seg.nii.gz"))) == 1
