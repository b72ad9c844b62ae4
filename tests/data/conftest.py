# SPDX-License-Identifier: Apache-2.0
"""Small synthetic data sets for the tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from monai_sam2adapter.data import (
    write_acdc_phantom,
    write_isbi2012_phantom,
    write_kvasir_phantom,
    write_synapse_phantom,
)


@pytest.fixture(scope="session")
def phantom_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms of three patients, one in each part of the split; not to be changed."""
    folder = tmp_path_factory.mktemp("phantom")
    write_acdc_phantom(folder, num_train=1, num_val=1, num_test=1, progress=False)
    return folder


@pytest.fixture
def acdc_dir(phantom_dir: Path, tmp_path: Path) -> Path:
    """A copy of the phantoms that a test may damage: patients 001 (train), 015 (val) and 017 (test)."""
    return Path(shutil.copytree(phantom_dir, tmp_path / "acdc"))


@pytest.fixture(scope="session")
def synapse_phantom_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Abdominal phantoms: cases 0006 (train), 0005 (val) and 0001 (test); not to be changed."""
    folder = tmp_path_factory.mktemp("synapse_phantom")
    write_synapse_phantom(folder, num_train=1, num_val=1, num_test=1, progress=False)
    return folder


@pytest.fixture
def synapse_dir(synapse_phantom_dir: Path, tmp_path: Path) -> Path:
    """A copy of the abdominal phantoms that a test may damage."""
    return Path(shutil.copytree(synapse_phantom_dir, tmp_path / "synapse"))


@pytest.fixture
def transunet_dir(tmp_path: Path) -> Path:
    """TransUNet's arrays, of noise: case0005 as two slices (val) and case0001 as a volume (test), its
    slices the other way round; with all 9 labels."""
    h5py = pytest.importorskip("h5py")
    root = tmp_path / "arrays"
    (root / "train_npz").mkdir(parents=True)
    (root / "test_vol_h5").mkdir()
    rng = np.random.default_rng(0)
    image = rng.uniform(-0.1, 1.2, (2, 4, 6)).astype(np.float32)  # (D, H, W)
    label = np.arange(48).reshape(2, 4, 6).astype(np.float32) % 9
    for k in range(2):
        np.savez(root / "train_npz" / f"case0005_slice{k:03d}.npz", image=image[k], label=label[k])
    with h5py.File(root / "test_vol_h5" / "case0001.npy.h5", "w") as file:
        file["image"], file["label"] = image[::-1], label[::-1]
    return root


@pytest.fixture(scope="session")
def isbi2012_phantom_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantom of 6 slices; not to be changed."""
    folder = tmp_path_factory.mktemp("isbi2012")
    write_isbi2012_phantom(folder, num_slices=6, progress=False)
    return folder


@pytest.fixture
def isbi2012_dir(isbi2012_phantom_dir: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(isbi2012_phantom_dir, tmp_path / "isbi2012"))


@pytest.fixture(scope="session")
def kvasir_phantom_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms ``phantom0000`` to ``phantom0005``; not to be changed."""
    folder = tmp_path_factory.mktemp("kvasir")
    write_kvasir_phantom(folder, num_images=6, progress=False)
    return folder


@pytest.fixture
def kvasir_dir(kvasir_phantom_dir: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(kvasir_phantom_dir, tmp_path / "kvasir"))
