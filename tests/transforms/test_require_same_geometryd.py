# SPDX-License-Identifier: Apache-2.0
"""Images and labels that do not lie on each other are named."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged

from monai_sam2adapter.data import DatasetReport, check_image_and_label
from monai_sam2adapter.transforms import RequireSameGeometryd

SPACING = (2.0, 1.5, 10.0)


def volume(shape: tuple[int, ...] = (5, 4, 3), shift: float = 0, file: str = "a/image.nii.gz") -> MetaTensor:
    affine = np.diag([*SPACING, 1.0])
    affine[1, 3] = shift
    return MetaTensor(torch.zeros(1, *shape), affine=torch.tensor(affine), meta={"filename_or_obj": file})


def check(image: object, label: object) -> dict:
    return RequireSameGeometryd(["image", "label"])({"image": image, "label": label})


def test_passes_on_what_lies_on_each_other() -> None:
    image, label = volume(), volume(shift=0.0149)  # a hundredth of the smallest side
    items = check(image, label)
    assert items["image"] is image
    assert items["label"] is label


def test_channels_do_not_matter() -> None:
    check(torch.zeros(3, 5, 4), torch.zeros(1, 5, 4))


@pytest.mark.parametrize("kind", [np.zeros, torch.zeros], ids=["array", "tensor"])
def test_without_an_affine_only_the_shapes_count(kind: type) -> None:
    check(volume(), kind((1, 5, 4, 3)))
    with pytest.raises(ValueError, match=r"the item 'label' has the shape \(5, 4, 2\), its image \(5, 4, 3\)"):
        check(volume(), kind((1, 5, 4, 2)))


@pytest.mark.parametrize("shape", [(5, 4, 2), (4, 5, 3), (5, 4)])
def test_another_shape_is_named_with_both_files(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^b/label\.nii has the shape .*, its image \(5, 4, 3\)") as error:
        check(volume(), volume(shape, file="b/label.nii"))
    assert str(shape) in str(error.value)
    assert "a/image.nii.gz" in str(error.value)


def test_another_place_is_named_with_the_distance() -> None:
    with pytest.raises(ValueError, match=r"^b/label\.nii lies elsewhere than its image: .* up to 0\.02 mm apart"):
        check(volume(), volume(shift=0.02, file="b/label.nii"))


def test_a_flip_is_as_far_as_the_volume_is_wide() -> None:
    label = volume(file="b/label.nii")
    label.affine = torch.diag(torch.tensor([-2.0, 1.5, 10.0, 1.0], dtype=torch.float64))
    with pytest.raises(ValueError, match="up to 16 mm apart"):  # 4 voxels of 2 mm to either side
        check(volume(), label)


def test_nan_is_no_place() -> None:
    with pytest.raises(ValueError, match="up to nan mm apart"):
        check(volume(), volume(shift=float("nan")))


def test_pictures_are_compared_too() -> None:
    def picture() -> MetaTensor:
        return MetaTensor(torch.zeros(3, 6, 4), affine=torch.eye(4))

    check(picture(), picture())


@pytest.mark.parametrize("shift", [0.0, 0.014, 0.016, 3.0])
def test_files_are_refused_as_the_check_reports_them(tmp_path: Path, shift: float) -> None:
    voxels = (np.arange(60).reshape(5, 4, 3) % 2).astype(np.uint8)
    paths = {key: str(tmp_path / f"{key}.nii.gz") for key in ("image", "label")}
    for key, path in paths.items():
        nib.save(nib.Nifti1Image(voxels, volume(shift=shift if key == "label" else 0).affine.numpy()), path)
    report = DatasetReport("set", str(tmp_path), ("background", "organ"))
    check_image_and_label(**paths, report=report)
    keys = ["image", "label"]
    load = Compose([LoadImaged(keys, ensure_channel_first=True), RequireSameGeometryd(keys)])
    if not report.problems:
        load(paths)
        return
    with pytest.raises(RuntimeError) as error:
        load(paths)
    assert paths["label"] in str(error.value.__cause__)
    assert (shift > 0.015) == bool(report.problems)


def test_one_key_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match=r"needs an image and its labels, got the keys \('image',\)"):
        RequireSameGeometryd("image")
