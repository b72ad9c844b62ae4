# SPDX-License-Identifier: Apache-2.0
"""Scans that are not in Hounsfield units are named; TransUNet's arrays, which hold a window of them, pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImaged

from monai_sam2adapter.data import AbdominalPhantom, TransUNetArrayReader
from monai_sam2adapter.transforms import RequireHounsfieldd


@pytest.fixture(scope="module")
def scan() -> torch.Tensor:
    return torch.tensor(AbdominalPhantom((0, 1)).render()[0][None], dtype=torch.float32)


def check(image: object) -> object:
    return RequireHounsfieldd("image")({"image": image})["image"]


def test_passes_scans_on(scan: torch.Tensor) -> None:
    assert check(scan) is scan
    check(scan.numpy().astype(np.int16))
    check(scan + 0.25)  # resampled


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda a: a + 1024, id="not-rescaled"),
        pytest.param(lambda a: a.clip(-125, 275), id="clipped"),
        pytest.param(lambda a: (a.clip(-125, 275) + 125) / 400, id="0-to-1"),
        pytest.param(lambda a: (a - a.mean()) / a.std(), id="standardized"),
        pytest.param(lambda a: a.clip(-2000, 0), id="no-bone"),
        pytest.param(lambda a: a * np.nan, id="nan"),
        pytest.param(lambda a: a[..., :0], id="empty"),
    ],
)
def test_names_the_file_of_other_values(scan: torch.Tensor, change: Callable) -> None:
    image = MetaTensor(change(scan), meta={"filename_or_obj": "a/scan.nii.gz"})
    with pytest.raises(ValueError, match=r"^a/scan\.nii\.gz is not in Hounsfield units: .*take the original scan"):
        check(image)


def test_transunets_arrays_pass(tmp_path: Path) -> None:
    paths = []
    for k in range(2):
        paths.append(str(tmp_path / f"case0005_slice00{k}.npz"))
        np.savez(paths[-1], image=np.linspace(0, 1, 24).reshape(4, 6), label=np.zeros((4, 6)))
    load = LoadImaged("image", reader=[TransUNetArrayReader(), "NibabelReader"], ensure_channel_first=True)
    loaded = load({"image": paths})
    assert RequireHounsfieldd("image")(loaded)["image"].max() == 275


def test_the_real_sample_passes(shared_data: Path) -> None:
    check(LoadImaged("image")({"image": str(shared_data / "ct_sample" / "img0001.nii.gz")})["image"])
